"""The log-sum-exp as two attention-like passes on Hopper's tensor cores (Pallas Mosaic GPU).

One kernel, `flash_logsumexp_gpu.attend`, serves both; nothing of size N × S leaves the registers.

* Forward: rows = states, columns = candidates, online maximum. It gives lse and the softmax mean
  of the candidates, o_n = Σ_j π_nj c_j; since ∂lse/∂state = o, the states' gradient is free.
* Backward: rows = candidates, columns = states with bias −lse and weight g. The exponents are ≤ 0,
  so there is no maximum and no normalisation; each row is summed in a fixed order, so there are no
  atomics and the result is bitwise reproducible.

Together 8·N·S·D operations. Operands are bfloat16 or float16 with D ≤ 256; logits, sums and lse
are float32, p is cast to the operands' type for the second product. Other operands take the XLA
path: the tensor cores have no float32, and TensorFloat32 would miss the 1e-5 that `xla` keeps.

Shapes: as in `logsumexp.py`; K parts of the columns, added up at the end.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp

from negflax.loss.kernels import xla
from negflax.loss.kernels.flash_logsumexp_gpu import LOG2E, Side, Tiles, attend

SHIFT = 9.0  # backward holds p·e^9: 1 / (a million candidates) would underflow in float16


def available() -> bool:
    """Whether the default device is a Hopper GPU; no other has these instructions."""
    return getattr(jax.devices()[0], "compute_capability", None) == "9.0"


def supports(states_ND: jax.Array, candidates_SD: jax.Array, *ids: jax.Array) -> bool:
    """Whether the kernel takes these operands; `logsumexp` gives all others to the XLA path."""
    return (
        states_ND.dtype == candidates_SD.dtype
        and states_ND.dtype in (jnp.bfloat16, jnp.float16)
        and 0 < states_ND.shape[1] <= 256
        and min(len(states_ND), len(candidates_SD)) > 0
        and all(x.dtype.itemsize <= 4 for x in ids)
    )


def logsumexp(
    states_ND: jax.Array,
    candidates_SD: jax.Array,
    bias_S: jax.Array,
    ids_S: jax.Array,
    exclude_NL: jax.Array,
    block_elements: int,
    tiles: Tiles | None = None,
) -> jax.Array:
    """(N,) float32 masked log-sum-exp; arguments as `fold_masks` returns them.

    `block_elements` is the budget of the XLA path where that is taken (see `supports`); the kernel
    keeps its logits in registers. L = 0 skips the comparison of ids.
    """
    if not supports(states_ND, candidates_SD, ids_S, exclude_NL):
        return xla.logsumexp(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, block_elements)
    ids_S, exclude_NL = ids_S.astype(jnp.int32), exclude_NL.astype(jnp.int32)
    return _logsumexp(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, tiles)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _logsumexp(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, tiles):
    return _forward(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, tiles, mean=False)[0]


def _forward(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, tiles, mean):
    """lse_N and, where asked for, the softmax mean of the candidates (N, D) in float32."""
    states = Side(states_ND, None, tuple(exclude_NL.T))
    candidates = Side(candidates_SD, bias_S, (ids_S,))
    sums_KND, total_KN, maximum_KN = attend(states, candidates, products=mean, tiles=tiles)
    maximum_N = jnp.max(maximum_KN, axis=0)
    scale_KN = jnp.exp2(maximum_KN - maximum_N)
    total_N = jnp.sum(scale_KN * total_KN, axis=0)
    lse_N = maximum_N / LOG2E + jnp.log(total_N)
    if not mean:
        return lse_N, None
    scale_KN = scale_KN / jnp.where(total_N > 0, total_N, 1)
    return lse_N, jnp.sum(scale_KN[:, :, None] * sums_KND, axis=0)


def _fwd(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, tiles):
    inputs = states_ND, candidates_SD, bias_S, ids_S, exclude_NL
    lse_N, mean_ND = _forward(*inputs, tiles, mean=True)
    return lse_N, (*inputs, lse_N, mean_ND)


def _bwd(tiles, residuals, g_N):
    states_ND, candidates_SD, bias_S, ids_S, exclude_NL, lse_N, mean_ND = residuals
    empty_N = jnp.isneginf(lse_N)
    g_N = jnp.where(empty_N, 0, g_N)
    largest = jnp.max(jnp.abs(g_N))
    unit = jnp.where(largest > 0, largest, 1)  # |g / unit| ≤ 1 suits float16
    minus_lse_N = jnp.where(empty_N, -jnp.inf, SHIFT - lse_N)
    states = Side(states_ND, minus_lse_N, tuple(exclude_NL.T))
    candidates = Side(candidates_SD, bias_S, (ids_S,))
    sums_KSD, total_KS, _ = attend(candidates, states, g_N / unit, tiles=tiles)
    scale = unit * math.exp(-SHIFT)
    d_states = (g_N[:, None] * mean_ND).astype(states_ND.dtype)
    d_candidates = (scale * jnp.sum(sums_KSD, axis=0)).astype(candidates_SD.dtype)
    return d_states, d_candidates, scale * jnp.sum(total_KS, axis=0), None, None


_logsumexp.defvjp(_fwd, _bwd)
