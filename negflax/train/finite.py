"""Which arrays of a state hold NaN or infinity: such a state is neither saved nor gone on with."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

_BFLOAT16_EXPONENT = 0x7F80  # all ones in infinity and NaN


def non_finite(state: Any) -> list[str]:
    """Paths of the arrays with a value that is not finite, such as `tables/item/rows`.

    The same on every process, for arrays sharded in any way. An array of uint16 is taken for the
    bits of bfloat16 rows (negflax/tables/rounding.py).
    """
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }
    found = jax.device_get(_all_finite(leaves))
    return [name for name, finite in found.items() if not finite]


@jax.jit
def _all_finite(leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: jnp.all(_finite(x)) for name, x in leaves.items()}


def _finite(x: jax.Array) -> jax.Array:
    if x.dtype == jnp.uint16:
        return x & _BFLOAT16_EXPONENT != _BFLOAT16_EXPONENT
    return jnp.isfinite(x) if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.array(True)
