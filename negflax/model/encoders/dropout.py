"""Dropout by a counter hash: the mask of an element depends on its place in the global batch.

So it is the same on any number of devices, and costs a few integer operations an element where a
threefry draw costs about 15 ns on a CPU.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from negflax.hashing import mix


def dropout(x_BTF: jax.Array, rate: float, seed: jax.Array, first_row: jax.Array) -> jax.Array:
    """Zeroes a share `rate` of the elements and scales the others by 1 / (1 − rate).

    Args:
      x_BTF: values; the leading axis counts batch rows.
      rate: share that is dropped, a Python float; 0 returns the input.
      seed: uint32 scalar, new each step and each use.
      first_row: place of row 0 in the global batch (int32).
    """
    if not rate:
        return x_BTF
    rows, per_row = len(x_BTF), x_BTF[0].size
    index = lax.broadcasted_iota(jnp.uint32, (rows, per_row), 0) + first_row.astype(jnp.uint32)
    index = index * jnp.uint32(per_row) + lax.broadcasted_iota(jnp.uint32, (rows, per_row), 1)
    keep = mix(mix(index) ^ seed) >= jnp.uint32(rate * 2**32)
    return jnp.where(keep.reshape(x_BTF.shape), x_BTF / (1 - rate), 0)
