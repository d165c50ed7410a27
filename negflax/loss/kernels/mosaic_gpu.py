"""The log-sum-exp as two attention-like passes on Hopper's tensor cores (Pallas Mosaic GPU).

One kernel, `flash_logsumexp_gpu.attend`, serves both; nothing of size N × S leaves the registers.

* Forward: rows = states, columns = candidates, online maximum. It gives lse and the softmax mean
  of the candidates, o_n = Σ_j π_nj c_j; since ∂lse/∂state = o, the states' gradient is free.
* Backward: rows = candidates, columns = states with bias −lse and weight g. The exponents are ≤ 0,
  so there is no maximum and no normalisation; each row is summed in a fixed order, so there are no
  atomics and the result is bitwise reproducible.

Together 8·N·S·D operations. Operands are bfloat16 or float16 with D ≤ 256, or float32 that are
cast to such; logits, sums and lse are float32, p is cast to the operands' type for the second
product. Float32 products are refused: the tensor cores have none, and TensorFloat32 would miss the
1e-5 that `xla` keeps.

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


def why_not(width: int, product_dtype: jnp.dtype, *ids: jax.Array) -> str:
    """Why the kernel does not take vectors of this width and product type; empty if it does."""
    if product_dtype not in (jnp.bfloat16, jnp.float16):
        return (
            f"products of {jnp.dtype(product_dtype)}: the tensor cores take 16 bits; set "
            "config.model.precision = 'bfloat16', or cast both operands to bfloat16"
        )
    if not 0 < width <= 256:
        return f"vectors of width {width}: it takes 1 to 256"
    if any(x.dtype.itemsize > 4 for x in ids):
        return "ids of 64 bits: it compares 32; give int32"
    return ""


def logsumexp(
    states_ND: jax.Array,
    candidates_SD: jax.Array,
    bias_S: jax.Array,
    ids_S: jax.Array,
    exclude_NL: jax.Array,
    product_dtype: str | None = None,
    tiles: Tiles | None = None,
) -> jax.Array:
    """(N,) float32 masked log-sum-exp; arguments as `fold_masks` returns them.

    Products are of `product_dtype`, by default the operands'. L = 0 skips the comparison of ids.

    Raises:
      ValueError: the kernel does not take such operands.
    """
    kind = jnp.dtype(product_dtype or jnp.promote_types(states_ND.dtype, candidates_SD.dtype))
    if said := why_not(states_ND.shape[1], kind, ids_S, exclude_NL):
        raise ValueError(f"mosaic_gpu does not support {said}; or choose 'xla'")
    if not min(len(states_ND), len(candidates_SD)):  # no block to run over
        return xla.logsumexp(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, 1)
    ids_S, exclude_NL = ids_S.astype(jnp.int32), exclude_NL.astype(jnp.int32)
    return _logsumexp(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, kind, tiles)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _logsumexp(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, kind, tiles):
    inputs = states_ND.astype(kind), candidates_SD.astype(kind), bias_S, ids_S, exclude_NL
    return _forward(*inputs, tiles, mean=False)[0]


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


def _fwd(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, kind, tiles):
    inputs = states_ND.astype(kind), candidates_SD.astype(kind), bias_S, ids_S, exclude_NL
    lse_N, mean_ND = _forward(*inputs, tiles, mean=True)
    like = jnp.zeros(0, states_ND.dtype), jnp.zeros(0, candidates_SD.dtype)
    return lse_N, (*inputs, lse_N, mean_ND, like)


def _bwd(kind, tiles, residuals, g_N):
    states_ND, candidates_SD, bias_S, ids_S, exclude_NL, lse_N, mean_ND, like = residuals
    empty_N = jnp.isneginf(lse_N)
    g_N = jnp.where(empty_N, 0, g_N)
    largest = jnp.max(jnp.abs(g_N))
    unit = jnp.where(largest > 0, largest, 1)  # |g / unit| ≤ 1 suits float16
    minus_lse_N = jnp.where(empty_N, -jnp.inf, SHIFT - lse_N)
    states = Side(states_ND, minus_lse_N, tuple(exclude_NL.T))
    candidates = Side(candidates_SD, bias_S, (ids_S,))
    sums_KSD, total_KS, _ = attend(candidates, states, g_N / unit, tiles=tiles)
    scale = unit * math.exp(-SHIFT)
    d_states = (g_N[:, None] * mean_ND).astype(like[0].dtype)
    d_candidates = (scale * jnp.sum(sums_KSD, axis=0)).astype(like[1].dtype)
    return d_states, d_candidates, scale * jnp.sum(total_KS, axis=0), None, None


_logsumexp.defvjp(_fwd, _bwd)
