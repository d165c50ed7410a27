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
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES = 128
MAX_TILE = 512  # queries, and keys, in a tile
VMEM_BYTES = 8 * 2**20  # what a tile's arrays may take; a kernel is granted 16 MiB by default
LOWEST = float(np.finfo(np.float32).min)  # the maximum of nothing; −inf would make exp(x − max) NaN

# --- inside the kernels -------------------------------------------------------------------------


def _dot(a, b, axes: tuple[int, int]) -> jax.Array:
    """Product over one axis of each, summed in float32; float32 operands keep all their bits."""
    exact = lax.Precision.HIGHEST if a.dtype == jnp.float32 else lax.Precision.DEFAULT
    dimensions = (((axes[0],), (axes[1],)), ((), ()))
    return lax.dot_general(a, b, dimensions, exact, preferred_element_type=jnp.float32)


def _columns(rows_RX) -> jax.Array:
    """(X, R), R rounded up to whole lanes: the shapes that transposing takes."""
    return jnp.pad(rows_RX, ((0, -len(rows_RX) % LANES), (0, 0))).T


def _row(column_X1) -> jax.Array:
    """(1, X)."""
    return jnp.broadcast_to(column_X1, (len(column_X1), LANES)).T[:1]


def _excluded(ids: Sequence[jax.Array], exclude: Sequence[jax.Array]) -> jax.Array:
    """(Q, K) bool: the W words of an id equal those of a label; `exclude` has L·W of them.

    Every word is a column of queries or a row of keys, (Q, 1) or (1, K).
    """
    words = len(ids)
    same = [word == ids[i % words] for i, word in enumerate(exclude)]
    labels = [same[i : i + words] for i in range(0, len(same), words)]
    return functools.reduce(operator.or_, [functools.reduce(operator.and_, x) for x in labels])


def _forward_kernel(
    states_ref, exclude_ref, candidates_ref, bias_ref, ids_ref,
    mean_ref, lse_ref, maximum_ref, total_ref, exclude_columns_ref,
):  # fmt: skip
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
        [exclude_columns_ref[:, i : i + 1] for i in range(len(exclude_ref))],
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
        if mean_ref is not None:  # the largest logit adds 1 to a total that is not empty
            mean_ref[...] = mean_ref[...] / jnp.maximum(total, 1)


def _backward_kernel(
    candidates_ref, bias_ref, ids_ref, states_ref, exclude_ref, lse_ref, g_ref,
    d_candidates_ref, d_bias_ref, total_ref, bias_column_ref, ids_columns_ref,
):  # fmt: skip
    @pl.when(pl.program_id(1) == 0)
    def _start():
        d_candidates_ref[...] = jnp.zeros_like(d_candidates_ref)
        total_ref[...] = jnp.zeros_like(total_ref)
        bias_column_ref[...] = _columns(bias_ref[...])
        ids_columns_ref[...] = _columns(ids_ref[...])

    states = states_ref[...]
    excluded = _excluded(
        [ids_columns_ref[:, i : i + 1] for i in range(len(ids_ref))],
        [exclude_ref[i : i + 1, :] for i in range(len(exclude_ref))],
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


@jax.custom_vjp
def logsumexp(
    states_ND: jax.Array,
    candidates_SD: jax.Array,
    bias_S: jax.Array,
    ids_S: jax.Array,
    exclude_NL: jax.Array,
) -> jax.Array:
    """(N,) float32 masked log-sum-exp; arguments as `fold_masks` returns them.

    Differentiable in states, candidates and bias for any cotangent. No block budget: a tile lives in
    VMEM, and temporary memory is a few arrays of the operands' sizes.

    Args:
      states_ND: float32, multiplied with all its bits, or bfloat16, several times as fast.
      candidates_SD: same dtype.
      bias_S: float32; −inf removes the candidate.
      ids_S: integers of up to 64 bits, compared as integers.
      exclude_NL: ids each state leaves out.

    Returns:
      −inf, with zero gradients, where a state has no candidate left.

    Raises:
      ValueError: states or candidates are neither float32 nor bfloat16.
    """
    return _forward(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, with_mean=False)[0]


def _logsumexp_fwd(states_ND, candidates_SD, bias_S, ids_S, exclude_NL):
    arguments = states_ND, candidates_SD, bias_S, ids_S, exclude_NL
    lse_N, mean_ND = _forward(*arguments, with_mean=True)
    return lse_N, (*arguments, lse_N, mean_ND)


def _logsumexp_bwd(residuals, g_N):
    *arguments, lse_N, mean_ND = residuals
    empty_N = jnp.isneginf(lse_N)
    g_N = jnp.where(empty_N, 0, g_N)
    d_candidates, d_bias = _backward(*arguments, jnp.where(empty_N, jnp.inf, lse_N), g_N)
    d_states = (mean_ND * g_N[:, None]).astype(arguments[0].dtype)
    return d_states, d_candidates.astype(arguments[1].dtype), d_bias, None, None


logsumexp.defvjp(_logsumexp_fwd, _logsumexp_bwd)


def _forward(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, *, with_mean: bool):
    """(lse_N, mean_ND or None)."""
    n, d = states_ND.shape
    tiles, states, candidates = _operands(states_ND, candidates_SD, bias_S, ids_S, exclude_NL)
    tile = tiles[0]
    mean = jax.ShapeDtypeStruct(states[0].shape, jnp.float32) if with_mean else None
    lse = jax.ShapeDtypeStruct((1, len(states[0])), jnp.float32)
    scratch = [(tile, 1, jnp.float32)] * 2 + [(tile, _round_up(len(states[1]), LANES), jnp.int32)]
    mean, lse = _call(_forward_kernel, tiles, states, candidates, (mean, lse), scratch)
    return lse[0, :n], mean[:n, :d] if with_mean else None


def _backward(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, lse_N, g_N):
    """(∂candidates_SD, ∂bias_S) in float32; states of lse = +inf or g = 0 add nothing."""
    s, d = candidates_SD.shape
    tiles, states, candidates = _operands(states_ND, candidates_SD, bias_S, ids_S, exclude_NL)
    lse, g = _pad(lse_N[None], 1, tiles[0], jnp.inf), _pad(g_N[None], 1, tiles[0])
    tile = tiles[1]
    outputs = (
        jax.ShapeDtypeStruct(candidates[0].shape, jnp.float32),
        jax.ShapeDtypeStruct((1, len(candidates[0])), jnp.float32),
    )
    scratch = [(tile, 1, jnp.float32), (tile, LANES, jnp.float32), (tile, LANES, jnp.int32)]
    keys = (*states, lse, g)
    d_candidates, d_bias = _call(_backward_kernel, tiles[::-1], candidates, keys, outputs, scratch)
    return d_candidates[:s, :d], d_bias[0, :s]


def _operands(states_ND, candidates_SD, bias_S, ids_S, exclude_NL):
    """(tiles, states, candidates), each side a padded matrix (X, D) and its rows (R, X).

    Columns of zeros change no logit, candidates that pad have bias −inf, and the backward pass gives
    states that pad a lse of +inf: weight 0, whatever their logits are.
    """
    dtype = states_ND.dtype
    if dtype not in (jnp.float32, jnp.bfloat16) or candidates_SD.dtype != dtype:
        raise ValueError(
            f"states {dtype} and candidates {candidates_SD.dtype}: the TPU kernel takes float32 or "
            'bfloat16 for both; cast them or choose impl="xla"'
        )
    tile_n, tile_s = _tiles(len(states_ND), len(candidates_SD), states_ND.shape[1])
    kind = jnp.result_type(ids_S, exclude_NL)
    ids = _words(ids_S.astype(kind)[None])
    exclude = _words(exclude_NL.astype(kind).T)
    states = _pad(states_ND, tile_n, LANES), _pad(exclude, len(ids), tile_n, -1)
    bias = _pad(bias_S[None], 1, tile_s, -jnp.inf)
    candidates = _pad(candidates_SD, tile_s, LANES), bias, _pad(ids, 1, tile_s)
    return (tile_n, tile_s), states, candidates


def _call(
    kernel: Callable[..., None],
    tiles: tuple[int, int],
    queries: Sequence[jax.Array],
    keys: Sequence[jax.Array],
    outputs: Sequence[jax.ShapeDtypeStruct | None],
    scratch: Sequence[tuple[int, int, jnp.dtype]],
) -> Sequence[jax.Array]:
    """Runs a kernel over (query blocks, key blocks), the keys in sequence; outputs are queries'."""
    zero = np.int32(0)  # a Python 0 would be 64 bits wide under x64

    def specs(group, axis):
        def matrix(x):
            return pl.BlockSpec((tiles[axis], x.shape[1]), lambda *step: (step[axis], zero))

        def row(x):
            return pl.BlockSpec((len(x), tiles[axis]), lambda *step: (zero, step[axis]))

        first, *rows = group
        return [None if first is None else matrix(first), *map(row, rows)]

    (q, d), k = queries[0].shape, len(keys[0])
    return pl.pallas_call(
        kernel,
        grid=(q // tiles[0], k // tiles[1]),
        in_specs=specs(queries, 0) + specs(keys, 1),
        out_specs=specs(outputs, 0),
        out_shape=list(outputs),
        scratch_shapes=[pltpu.VMEM(shape, dtype) for *shape, dtype in scratch],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        name=kernel.__name__.strip("_"),
    )(*queries, *keys)


def _tiles(n: int, s: int, d: int) -> tuple[int, int]:
    """States and candidates in a tile: even shares of N and S, as large as VMEM allows."""
    most, width = MAX_TILE, _round_up(d, LANES)
    # Two buffers of each of two operands and the output, and three tiles, all in float32.
    while most > LANES and 4 * most * (6 * width + 3 * most) > VMEM_BYTES:
        most //= 2
    return tuple(_round_up(pl.cdiv(x, max(1, pl.cdiv(x, most))), LANES) for x in (n, s))


def _words(ids_RX: jax.Array) -> jax.Array:
    """(R·W, X) int32, the words of an id in consecutive rows: the TPU compares 32 bits at a time."""
    words = [ids_RX.astype(jnp.int32)]
    if ids_RX.dtype.itemsize == 8:
        words.append((ids_RX >> 32).astype(jnp.int32))
    return jnp.stack(words, axis=1).reshape(-1, ids_RX.shape[1])


def _pad(matrix: jax.Array, down: int, across: int, value: float = 0) -> jax.Array:
    """Extends both axes to multiples, at least one, of `down` and `across`."""
    sizes = (_round_up(x, m) - x for x, m in zip(matrix.shape, (down, across), strict=True))
    return jnp.pad(matrix, [(0, more) for more in sizes], constant_values=value)


def _round_up(x: int, multiple: int) -> int:
    return max(1, pl.cdiv(x, multiple)) * multiple
