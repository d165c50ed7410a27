"""The log-sum-exp on TPUs (Pallas Mosaic): two passes shaped like attention, no N × S array.

Forward: queries are the states, keys and values the candidates. A running maximum and sum give
lse_n; the same pass gives the mean candidate o_n = Σ_j π_nj c_j, and as ∂lse_n/∂s_n = o_n the
states' gradient is g_n·o_n. Backward: queries are the candidates, keys and values the states, and
−lse is the keys' bias. Exponents are then ≤ 0, so there is no running maximum and no normalisation,
and each candidate's gradient is summed in one place and one order: bitwise deterministic.
8·N·S·D operations in all.

A tile of logits has queries down its sublanes and keys across its lanes. What is one number a state
or candidate stays a row in memory, where a column would be padded to 128 lanes; the queries' rows
become columns in VMEM, once a query block. Shapes: N states, S candidates, L labels a state, D
width, W 32-bit words an id, X either of N and S, Q and K the queries and keys of a tile.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES = 128
TILES = ((512, 1024), (512, 512), (256, 256), (128, 128))  # queries, keys: the first that fits
VMEM_BYTES = 10 * 2**20  # what a tile may take; the compiler grants a kernel 16 MiB by default
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


def _dot(a, b, axes: tuple[int, int]) -> jax.Array:
    """Product over one axis of each, in float32; float32 operands are not cut to bfloat16."""
    precision = lax.Precision.HIGHEST if a.dtype == jnp.float32 else lax.Precision.DEFAULT
    dimensions = (((axes[0],), (axes[1],)), ((), ()))
    return lax.dot_general(a, b, dimensions, precision, preferred_element_type=jnp.float32)


def _columns(rows_RX) -> jax.Array:
    """(X, R) with R rounded up to whole lanes: what the TPU transposes."""
    return jnp.pad(rows_RX, ((0, -len(rows_RX) % LANES), (0, 0))).T


def _row(column_X1) -> jax.Array:
    """(1, X)."""
    return jnp.broadcast_to(column_X1, (len(column_X1), LANES)).T[:1]


def _excluded(ids: Sequence[jax.Array], labels: Iterable[jax.Array]) -> jax.Array:
    """(Q, K) bool: the W words of an id equal those of one of the labels, L·W words.

    A word is a column of queries or a row of keys, (Q, 1) or (1, K).
    """
    each = zip(*[iter(labels)] * len(ids), strict=True)
    same = (functools.reduce(operator.and_, map(operator.eq, ids, label)) for label in each)
    return functools.reduce(operator.or_, same)


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
        exclude_columns_ref[...] = _columns(exclude_ref[...])
        if mean_ref is not None:
            mean_ref[...] = jnp.zeros_like(mean_ref)

    candidates = candidates_ref[...]
    excluded = _excluded(
        [ids_ref[i : i + 1, :] for i in range(len(ids_ref))],
        (exclude_columns_ref[:, i : i + 1] for i in range(len(exclude_ref))),
    )
    logits = _dot(states_ref[...], candidates, (1, 1)) + bias_ref[...]
    logits = jnp.where(excluded, -jnp.inf, logits)
    before = maximum_ref[...]
    maximum = jnp.maximum(before, jnp.max(logits, axis=1, keepdims=True))
    weights, kept = jnp.exp(logits - maximum), jnp.exp(before - maximum)
    maximum_ref[...] = maximum
    total_ref[...] = total_ref[...] * kept + jnp.sum(weights, axis=1, keepdims=True)
    if mean_ref is not None:
        more = _dot(weights.astype(candidates.dtype), candidates, (1, 0))
        mean_ref[...] = mean_ref[...] * kept + more

    @pl.when(pl.program_id(1) == pl.num_programs(1) - 1)
    def _finish():
        total = total_ref[...]
        lse_ref[...] = _row(maximum_ref[...] + jnp.log(total))
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
        bias_column_ref[...] = _columns(bias_ref[...])
        ids_columns_ref[...] = _columns(ids_ref[...])

    states = states_ref[...]
    excluded = _excluded(
        [ids_columns_ref[:, i : i + 1] for i in range(len(ids_ref))],
        (exclude_ref[i : i + 1, :] for i in range(len(exclude_ref))),
    )
    logits = _dot(candidates_ref[...], states, (1, 1)) + bias_column_ref[:, :1]
    softmax = jnp.exp(jnp.where(excluded, -jnp.inf, logits) - lse_ref[...])
    weights = softmax * g_ref[...]
    d_candidates_ref[...] += _dot(weights.astype(states.dtype), states, (1, 0))
    total_ref[...] += jnp.sum(weights, axis=1, keepdims=True)

    @pl.when(pl.program_id(1) == pl.num_programs(1) - 1)
    def _finish():
        d_bias_ref[...] = _row(total_ref[...])


# --- around them --------------------------------------------------------------------------------


def _forward(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, *, with_mean: bool):
    """(lse_N, mean_ND or None)."""
    n, d = states_ND.shape
    tiles = _tiles(states_ND, candidates_SD, exclude_NL)
    states, candidates = _operands(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, *tiles)
    outputs = states[0].shape if with_mean else None, (1, len(states[0]))
    columns = _round_up(len(states[1]), LANES)
    scratch = ((1, jnp.float32), (1, jnp.float32), (columns, jnp.int32))
    mean, lse = _call(_forward_kernel, tiles, states, candidates, outputs, scratch)
    return lse[0, :n], mean[:n, :d] if with_mean else None


def _backward(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, lse_N, g_N):
    """(∂candidates_SD, ∂bias_S) in float32; a state of lse = +inf adds nothing."""
    s, d = candidates_SD.shape
    tile_s, tile_n = tiles = _tiles(candidates_SD, states_ND, exclude_NL)
    states, candidates = _operands(
        states_ND, candidates_SD, bias_S, ids_S, exclude_NL, tile_n, tile_s
    )
    keys = *states, _pad(lse_N[None], 1, tile_n, jnp.inf), _pad(g_N[None], 1, tile_n)
    outputs = candidates[0].shape, (1, len(candidates[0]))
    scratch = ((1, jnp.float32), (LANES, jnp.float32), (LANES, jnp.int32))
    d_candidates, d_bias = _call(_backward_kernel, tiles, candidates, keys, outputs, scratch)
    return d_candidates[:s, :d], d_bias[0, :s]


def _tiles(queries_QD, keys_KD, exclude_NL) -> tuple[int, int]:
    """Queries and keys in a tile: even shares of them all, as large as VMEM allows.

    Keys first: what happens once a row (maximum, sum, columns) is slow on a TPU, so rows are long.
    """
    width, labels = _round_up(queries_QD.shape[1], LANES), exclude_NL.shape[1]

    def need(q, k):
        # As measured with the compiler: operands, their copies and the result; tiles of logits;
        # the columns of labels, which it spreads over the lanes.
        numbers = 6 * width * (q + k) + 3 * q * k
        return queries_QD.dtype.itemsize * numbers + exclude_NL.dtype.itemsize * labels * LANES * q

    def share(count, most):
        return _round_up(pl.cdiv(count, max(1, pl.cdiv(count, most))), LANES)

    q, k = next((tile for tile in TILES if need(*tile) <= VMEM_BYTES), TILES[-1])
    return share(len(queries_QD), q), share(len(keys_KD), k)


def _operands(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, tile_n: int, tile_s: int):
    """(states, candidates), each a matrix (X, D) and its rows (R, X), padded to whole tiles.

    Columns of zeros change no logit; candidates that pad have bias −inf; states that pad get
    lse = +inf in the backward pass, weight 0 whatever their logits.
    """
    dtype = states_ND.dtype
    if dtype not in (jnp.float32, jnp.bfloat16) or candidates_SD.dtype != dtype:
        raise ValueError(
            f"states {dtype} and candidates {candidates_SD.dtype}: the TPU kernel takes float32 or "
            'bfloat16 for both; cast them or choose impl="xla"'
        )
    kind = jnp.result_type(ids_S, exclude_NL)
    ids, exclude = _words(ids_S.astype(kind)[None]), _words(exclude_NL.astype(kind).T)
    states = _pad(states_ND, tile_n, LANES), _pad(exclude, len(ids), tile_n, -1)
    bias = _pad(bias_S[None], 1, tile_s, -jnp.inf)
    candidates = _pad(candidates_SD, tile_s, LANES), bias, _pad(ids, 1, tile_s)
    return states, candidates


def _call(
    kernel: Callable[..., None],
    tiles: tuple[int, int],
    queries: Sequence[jax.Array],
    keys: Sequence[jax.Array],
    outputs: Sequence[tuple[int, int] | None],
    scratch: Sequence[tuple[int, jnp.dtype]],
) -> Sequence[jax.Array | None]:
    """Runs a kernel over query blocks × key blocks, the keys in sequence.

    Queries, keys and outputs are each a matrix and its rows; outputs (shapes, float32) and scratch
    (widths and dtypes) belong to the queries.
    """
    zero = np.int32(0)  # a Python 0 has 64 bits where x64 is on

    def specs(shapes, axis):
        (matrix, *rows), tile = shapes, tiles[axis]
        down = matrix and pl.BlockSpec((tile, matrix[1]), lambda *step: (step[axis], zero))
        return [down] + [pl.BlockSpec((r, tile), lambda *step: (zero, step[axis])) for r, _ in rows]

    return pl.pallas_call(
        kernel,
        grid=(len(queries[0]) // tiles[0], len(keys[0]) // tiles[1]),
        in_specs=specs([x.shape for x in queries], 0) + specs([x.shape for x in keys], 1),
        out_specs=specs(outputs, 0),
        out_shape=[shape and jax.ShapeDtypeStruct(shape, jnp.float32) for shape in outputs],
        scratch_shapes=[pltpu.VMEM((tiles[0], width), dtype) for width, dtype in scratch],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        name=f"logsumexp{kernel.__name__}",
    )(*queries, *keys)


def _words(ids_RX: jax.Array) -> jax.Array:
    """(R·W, X) int32: the 32-bit words of an id, which the TPU can compare, in adjacent rows."""
    words = [ids_RX.astype(jnp.int32)]
    if ids_RX.dtype.itemsize == 8:
        words.append((ids_RX >> 32).astype(jnp.int32))
    rows, width = ids_RX.shape
    return jnp.stack(words, axis=1).reshape(rows * len(words), width)


def _pad(matrix: jax.Array, down: int, across: int, value: float = 0) -> jax.Array:
    """Extends both axes to multiples, at least one, of `down` and `across`."""
    sizes = (_round_up(x, m) - x for x, m in zip(matrix.shape, (down, across), strict=True))
    return jnp.pad(matrix, [(0, more) for more in sizes], constant_values=value)


def _round_up(x: int, multiple: int) -> int:
    return max(1, pl.cdiv(x, multiple)) * multiple
