"""Weights of a block of states, exp(logit − top), and their sums, for the walk of `one_pass.py`.

XLA makes them anywhere; `mosaic_tpu` names the kernel of `block_tpu.py`. Shapes: S candidates, D
width, L excluded ids of a state; `b` marks a block of states.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from negflax.loss.kernels import xla
from negflax.loss.kernels.xla import contract, finite
from negflax.loss.logsumexp import KernelOptions, implementation
from negflax.mesh import platform


class Weights(NamedTuple):
    """What the walk takes from a block.

    Attributes:
      weights_Sb: exp(logit − top), 0 where a candidate is left out; a kernel keeps them narrow.
      narrow_Sb: the same in the dtype of products.
      mean_Db: Σ weight · candidate.
      total_b: Σ weight.
      top_b: an upper bound on the logits, or their maximum.
    """

    weights_Sb: jax.Array
    narrow_Sb: jax.Array
    mean_Db: jax.Array
    total_b: jax.Array
    top_b: jax.Array


Weigh = Callable[[jax.Array, jax.Array, bool | jax.Array], Weights]


def walks_as_cpu(options: KernelOptions) -> bool:
    """Whether sums are apart from products, and blocks repeated one by one, as is best on a CPU."""
    return platform() == "cpu" and implementation(options.impl) == "xla"


def block_states(states: int, candidates_SD: jax.Array, options: KernelOptions) -> int:
    """States in a block."""
    if implementation(options.impl) == "mosaic_tpu":
        from negflax.loss.kernels import block_tpu

        kind = options.product_dtype or candidates_SD.dtype
        return block_tpu.block_states(states, len(candidates_SD), kind, options.block_elements)
    return xla.state_tile(states, len(candidates_SD), options.block_elements)


def weigher(
    candidates_SD: jax.Array,
    bias_S: jax.Array,
    ids_S: jax.Array,
    exclude_kbL: jax.Array,
    options: KernelOptions,
) -> Weigh:
    """(states_bD, exclude_bL, by_maximum) → Weights, of one block after another.

    With `by_maximum`, a bool that may be traced on a CPU, top is the largest logit; else
    ‖state‖ · max ‖candidate‖ + max bias, which saves a pass. `exclude_kbL` are the ids that the
    states of k blocks leave out.
    """
    kind = bias_S.dtype
    narrow_SD = candidates_SD.astype(options.product_dtype or candidates_SD.dtype)
    apart = walks_as_cpu(options)
    with_ones_DS = jnp.pad(narrow_SD, ((0, 0), (0, int(not apart))), constant_values=1).T
    ones_S = jnp.ones(len(narrow_SD), kind) if apart else None
    longest = jnp.max(length(candidates_SD, kind), initial=0)
    top_bias = finite(jnp.max(bias_S, initial=-jnp.inf))

    def bound(states_bD: jax.Array) -> jax.Array:
        bound_b = longest * length(states_bD, kind) + top_bias
        return jnp.where(jnp.isnan(bound_b), jnp.inf, bound_b)  # ∞ · 0 of overflown lengths

    def by_xla(
        states_bD: jax.Array, exclude_bL: jax.Array, by_maximum: bool | jax.Array
    ) -> Weights:
        products = xla.products(states_bD, narrow_SD, kind)
        excluded = xla.excluded(ids_S, exclude_bL)

        def below_maximum() -> tuple[jax.Array, jax.Array]:
            logits = jnp.where(excluded, -jnp.inf, products + bias_S[:, None])
            maximum = finite(jnp.max(logits, axis=0))
            return jnp.exp(logits - maximum), maximum

        def below_bound() -> tuple[jax.Array, jax.Array]:
            bound_b = bound(states_bD)
            return jnp.where(excluded, 0, jnp.exp(products + bias_S[:, None] - bound_b)), bound_b

        if isinstance(by_maximum, bool):
            weights, top_b = below_maximum() if by_maximum else below_bound()
        else:
            weights, top_b = lax.cond(by_maximum, below_maximum, below_bound)
        narrow = weights.astype(narrow_SD.dtype)
        mean_Db = contract(with_ones_DS, narrow, (1, 0), kind)
        if apart:
            return Weights(weights, narrow, mean_Db, xla.sums(ones_S, weights), top_b)
        return Weights(weights, narrow, mean_Db[:-1], mean_Db[-1], top_b)

    if implementation(options.impl) != "mosaic_tpu":
        return by_xla
    from negflax.loss.kernels import block_tpu

    _, block, labels = exclude_kbL.shape
    ids_S = ids_S.astype(jnp.result_type(ids_S, exclude_kbL))
    kernel = block_tpu.weigher(narrow_SD, bias_S, ids_S, labels, block)

    def by_kernel(
        states_bD: jax.Array, exclude_bL: jax.Array, by_maximum: bool | jax.Array
    ) -> Weights:
        if by_maximum:
            return by_xla(states_bD, exclude_bL, by_maximum)
        bound_b, states_bD = bound(states_bD), states_bD.astype(narrow_SD.dtype)
        weights, mean_Db, total_b = kernel(states_bD, exclude_bL.astype(ids_S.dtype), bound_b)
        return Weights(weights, weights, mean_Db, total_b, bound_b)

    return by_kernel


def length(x_ND: jax.Array, kind: jnp.dtype) -> jax.Array:
    """(N,) Euclidean lengths, in the dtype of sums."""
    return jnp.linalg.norm(x_ND.astype(kind), axis=1)
