"""The log-sum-exp on TPUs (Pallas Mosaic): two passes shaped like attention, no N × S array.

Forward: queries are the states, keys and values the candidates. A running maximum and sum give
lse_n; the same pass gives the mean candidate o_n = Σ_j π_nj c_j, and as ∂lse_n/∂s_n = o_n the
states' gradient is g_n·o_n. Backward: queries are the candidates, keys and values the states, and
−lse is the keys' bias. Exponents are then ≤ 0, so there is no running maximum and no normalisation,
and each candidate's gradient is summed in one place and one order: bitwise deterministic.
8·N·S·D operations in all.

Where the loss is known, `block_tpu.py` does with 6. Shapes: as in `tiles_tpu.py`.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from negflax.loss.kernels import tiles_tpu
from negflax.loss.kernels.tiles_tpu import LANES, columns, dot, row

LOWEST = float(np.finfo(np.float32).min)  # the maximum of nothing; −inf would make exp(x − max) NaN


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def logsumexp(
    states_ND: jax.Array,
    candidates_SD: jax.Array,
    bias_S: jax.Array,
    ids_S: jax.Array,
    exclude_NL: jax.Array,
    product_dtype: str | None = None,
) -> jax.Array:
    """(N,) float32 masked log-sum-exp; arguments as `fold_masks` returns them.

    Differentiable in states, candidates and bias for any cotangent. It needs no block budget: tiles
    live in VMEM, and temporary memory is a few arrays of the operands' sizes.

    Args:
      states_ND: bfloat16, or float32 at several times the cost: its products are float32 too.
      candidates_SD: same dtype.
      bias_S: float32; −inf removes the candidate.
      ids_S: integers of up to 64 bits, compared as integers.
      exclude_NL: ids each state leaves out, 200 at most: the mask of a tile is unrolled over them.
      product_dtype: of products, by default the operands'.

    Returns:
      −inf, with zero gradients, where a state has no candidate left.

    Raises:
      ValueError: states or candidates are neither float32 nor bfloat16.
    """
    arguments = *_cast(product_dtype, states_ND, candidates_SD), bias_S, ids_S, exclude_NL
    return _forward(*arguments, with_mean=False)[0]


def _cast(product_dtype: str | None, *operands: jax.Array) -> list[jax.Array]:
    return [x.astype(product_dtype or x.dtype) for x in operands]


def _logsumexp_fwd(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, product_dtype):
    arguments = *_cast(product_dtype, states_ND, candidates_SD), bias_S, ids_S, exclude_NL
    lse_N, mean_ND = _forward(*arguments, with_mean=True)
    like = jnp.zeros(0, states_ND.dtype), jnp.zeros(0, candidates_SD.dtype)
    return lse_N, (*arguments, lse_N, mean_ND, like)


def _logsumexp_bwd(product_dtype, residuals, g_N):
    *arguments, lse_N, mean_ND, like = residuals
    empty_N = jnp.isneginf(lse_N)
    g_N = jnp.where(empty_N, 0, g_N)
    d_candidates, d_bias = _backward(*arguments, jnp.where(empty_N, jnp.inf, lse_N), g_N)
    d_states = (mean_ND * g_N[:, None]).astype(like[0].dtype)
    return d_states, d_candidates.astype(like[1].dtype), d_bias, None, None


logsumexp.defvjp(_logsumexp_fwd, _logsumexp_bwd)


# --- inside the kernels -------------------------------------------------------------------------


def _forward_kernel(
    states_ref,
    exclude_ref,
    candidates_ref,
    bias_ref,
    ids_ref,
    mean_ref,
    lse_ref,
    maximum_ref,
    total_ref,
    exclude_columns_ref,
):
    @pl.when(pl.program_id(1) == 0)
    def _start():
        maximum_ref[...] = jnp.full_like(maximum_ref, LOWEST)
        total_ref[...] = jnp.zeros_like(total_ref)
        exclude_columns_ref[...] = columns(exclude_ref[...])
        if mean_ref is not None:
            mean_ref[...] = jnp.zeros_like(mean_ref)

    candidates = candidates_ref[...]
    excluded = tiles_tpu.excluded(
        [ids_ref[i : i + 1, :] for i in range(len(ids_ref))],
        (exclude_columns_ref[:, i : i + 1] for i in range(len(exclude_ref))),
    )
    logits = dot(states_ref[...], candidates, (1, 1)) + bias_ref[...]
    logits = jnp.where(excluded, -jnp.inf, logits)
    before = maximum_ref[...]
    maximum = jnp.maximum(before, jnp.max(logits, axis=1, keepdims=True))
    weights, kept = jnp.exp(logits - maximum), jnp.exp(before - maximum)
    maximum_ref[...] = maximum
    total_ref[...] = total_ref[...] * kept + jnp.sum(weights, axis=1, keepdims=True)
    if mean_ref is not None:
        more = dot(weights.astype(candidates.dtype), candidates, (1, 0))
        mean_ref[...] = mean_ref[...] * kept + more

    @pl.when(pl.program_id(1) == pl.num_programs(1) - 1)
    def _finish():
        total = total_ref[...]
        lse_ref[...] = row(maximum_ref[...] + jnp.log(total))
        if mean_ref is not None:  # the largest logit adds 1 to the total, so below 1 means empty
            mean_ref[...] = mean_ref[...] / jnp.maximum(total, 1)


def _backward_kernel(
    candidates_ref,
    bias_ref,
    ids_ref,
    states_ref,
    exclude_ref,
    lse_ref,
    g_ref,
    d_candidates_ref,
    d_bias_ref,
    total_ref,
    bias_column_ref,
    ids_columns_ref,
):
    @pl.when(pl.program_id(1) == 0)
    def _start():
        d_candidates_ref[...] = jnp.zeros_like(d_candidates_ref)
        total_ref[...] = jnp.zeros_like(total_ref)
        bias_column_ref[...] = columns(bias_ref[...])
        ids_columns_ref[...] = columns(ids_ref[...])

    states = states_ref[...]
    excluded = tiles_tpu.excluded(
        [ids_columns_ref[:, i : i + 1] for i in range(len(ids_ref))],
        (exclude_ref[i : i + 1, :] for i in range(len(exclude_ref))),
    )
    logits = dot(candidates_ref[...], states, (1, 1)) + bias_column_ref[:, :1]
    softmax = jnp.exp(jnp.where(excluded, -jnp.inf, logits) - lse_ref[...])
    weights = softmax * g_ref[...]
    d_candidates_ref[...] += dot(weights.astype(states.dtype), states, (1, 0))
    total_ref[...] += jnp.sum(weights, axis=1, keepdims=True)

    @pl.when(pl.program_id(1) == pl.num_programs(1) - 1)
    def _finish():
        d_bias_ref[...] = row(total_ref[...])


# --- around them --------------------------------------------------------------------------------


def _forward(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, *, with_mean: bool):
    """(lse_N, mean_ND or None)."""
    n, d = states_ND.shape
    tile_n, tile_s = tiles_tpu.tiles(states_ND, candidates_SD, exclude_NL)
    states = tiles_tpu.states(states_ND, exclude_NL, ids_S, tile_n)
    candidates = tiles_tpu.candidates(candidates_SD, bias_S, ids_S, exclude_NL, tile_s)
    outputs = states[0].shape if with_mean else None, (1, len(states[0]))
    label_columns = tiles_tpu.round_up(len(states[1]), LANES)
    scratch = ((1, jnp.float32), (1, jnp.float32), (label_columns, jnp.int32))
    mean, lse = tiles_tpu.call(
        _forward_kernel, (tile_n, tile_s), states, candidates, outputs, scratch
    )
    return lse[0, :n], mean[:n, :d] if with_mean else None


def _backward(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, lse_N, g_N):
    """(∂candidates_SD, ∂bias_S) in float32; a state of lse = +inf adds nothing."""
    s, d = candidates_SD.shape
    tile_s, tile_n = tiles_tpu.tiles(candidates_SD, states_ND, exclude_NL)
    states = tiles_tpu.states(states_ND, exclude_NL, ids_S, tile_n)
    candidates = tiles_tpu.candidates(candidates_SD, bias_S, ids_S, exclude_NL, tile_s)
    lse, g = tiles_tpu.pad(lse_N[None], 1, tile_n, jnp.inf), tiles_tpu.pad(g_N[None], 1, tile_n)
    outputs = candidates[0].shape, (1, len(candidates[0]))
    scratch = ((1, jnp.float32), (LANES, jnp.float32), (LANES, jnp.int32))
    d_candidates, d_bias = tiles_tpu.call(
        _backward_kernel, (tile_s, tile_n), candidates, (*states, lse, g), outputs, scratch
    )
    return d_candidates[:s, :d], d_bias[0, :s]
