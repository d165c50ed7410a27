"""What the log-sum-exp's kernels on TPUs have in common: tiles, masks, products, the call itself.

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


def dot(a, b, axes: tuple[int, int]) -> jax.Array:
    """Product over one axis of each, in float32; float32 operands are not cut to bfloat16."""
    precision = lax.Precision.HIGHEST if a.dtype == jnp.float32 else lax.Precision.DEFAULT
    dimensions = (((axes[0],), (axes[1],)), ((), ()))
    return lax.dot_general(a, b, dimensions, precision, preferred_element_type=jnp.float32)


def columns(rows_RX) -> jax.Array:
    """(X, R) with R rounded up to whole lanes: what the TPU transposes."""
    return jnp.pad(rows_RX, ((0, -len(rows_RX) % LANES), (0, 0))).T


def row(column_X1) -> jax.Array:
    """(1, X)."""
    return jnp.broadcast_to(column_X1, (len(column_X1), LANES)).T[:1]


def excluded(ids: Sequence[jax.Array], labels: Iterable[jax.Array]) -> jax.Array:
    """(Q, K) bool: the W words of an id equal those of one of the labels, L·W words.

    A word is a column of queries or a row of keys, (Q, 1) or (1, K).
    """
    each = zip(*[iter(labels)] * len(ids), strict=True)
    same = (functools.reduce(operator.and_, map(operator.eq, ids, label)) for label in each)
    return functools.reduce(operator.or_, same)


# --- around them --------------------------------------------------------------------------------


def tiles(queries_QD, keys_KD, exclude_NL, kept: bool = False) -> tuple[int, int]:
    """Queries and keys in a tile: even shares of them all, as large as VMEM allows.

    With `kept`, they are an output too. Keys first: what happens once a row (maximum, sum, columns)
    is slow on a TPU, so rows are long.

    Raises:
      ValueError: they are not both float32 or both bfloat16.
    """
    dtypes = queries_QD.dtype, keys_KD.dtype
    if dtypes[0] not in (jnp.float32, jnp.bfloat16) or dtypes[0] != dtypes[1]:
        raise ValueError(
            f"states and candidates are {dtypes[0]} and {dtypes[1]}: the TPU kernel takes float32 "
            'or bfloat16 for both; cast them or choose impl="xla"'
        )
    width, labels = round_up(queries_QD.shape[1], LANES), exclude_NL.shape[1]

    def need(q, k):
        # As measured with the compiler: operands, their copies and the result; tiles of logits;
        # the columns of labels, which it spreads over the lanes.
        numbers = 6 * width * (q + k) + (5 if kept else 3) * q * k
        return queries_QD.dtype.itemsize * numbers + exclude_NL.dtype.itemsize * labels * LANES * q

    def share(count, most):
        return round_up(pl.cdiv(count, max(1, pl.cdiv(count, most))), LANES)

    q, k = next((tile for tile in TILES if need(*tile) <= VMEM_BYTES), TILES[-1])
    return share(len(queries_QD), q), share(len(keys_KD), k)


def states(states_ND, exclude_NL, ids_S, tile: int) -> tuple[jax.Array, jax.Array]:
    """Vectors (X, D) and words of the excluded ids (L·W, X), padded to whole tiles.

    States that pad get lse = +inf in the backward pass, weight 0 whatever their logits.
    """
    kind = jnp.result_type(ids_S, exclude_NL)
    exclude, each = words(exclude_NL.astype(kind).T), len(words(jnp.zeros((1, 1), kind)))
    return pad(states_ND, tile, LANES), pad(exclude, each, tile, -1)


def candidates(candidates_SD, bias_S, ids_S, exclude_NL, tile: int) -> tuple[jax.Array, ...]:
    """Vectors (X, D), biases (1, X) and words of the ids (W, X), padded to whole tiles.

    Columns of zeros change no logit; candidates that pad have the bias −inf.
    """
    ids = words(ids_S.astype(jnp.result_type(ids_S, exclude_NL))[None])
    bias = pad(bias_S[None], 1, tile, -jnp.inf)
    return pad(candidates_SD, tile, LANES), bias, pad(ids, len(ids), tile)


def call(
    kernel: Callable[..., None],
    tiles: tuple[int, int],
    queries: Sequence[jax.Array],
    keys: Sequence[jax.Array],
    outputs: Sequence[tuple[int, int] | None],
    scratch: Sequence[tuple[int, jnp.dtype]],
    kept: jnp.dtype | None = None,
) -> Sequence[jax.Array | None]:
    """Runs a kernel over query blocks × key blocks, the keys in sequence.

    Queries, keys and outputs are each a matrix and its rows; outputs (shapes, float32) and scratch
    (widths and dtypes) belong to the queries. With `kept` there is one output more, of that dtype:
    every tile of queries × keys.
    """
    zero = np.int32(0)  # a Python 0 has 64 bits where x64 is on

    def specs(shapes, axis):
        (matrix, *rows), tile = shapes, tiles[axis]
        down = matrix and pl.BlockSpec((tile, matrix[1]), lambda *step: (step[axis], zero))
        return [down] + [pl.BlockSpec((r, tile), lambda *step: (zero, step[axis])) for r, _ in rows]

    out_specs = specs(outputs, 0)
    out_shape = [shape and jax.ShapeDtypeStruct(shape, jnp.float32) for shape in outputs]
    if kept is not None:
        out_specs.append(pl.BlockSpec(tiles, lambda *step: step))
        out_shape.append(jax.ShapeDtypeStruct((len(queries[0]), len(keys[0])), kept))
    return pl.pallas_call(
        kernel,
        grid=(len(queries[0]) // tiles[0], len(keys[0]) // tiles[1]),
        in_specs=specs([x.shape for x in queries], 0) + specs([x.shape for x in keys], 1),
        out_specs=out_specs,
        out_shape=out_shape,
        scratch_shapes=[pltpu.VMEM((tiles[0], width), dtype) for width, dtype in scratch],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        name=f"logsumexp{kernel.__name__}",
    )(*queries, *keys)


def words(ids_RX: jax.Array) -> jax.Array:
    """(R·W, X) int32: the 32-bit words of an id, which the TPU can compare, in adjacent rows."""
    words = [ids_RX.astype(jnp.int32)]
    if ids_RX.dtype.itemsize == 8:
        words.append((ids_RX >> 32).astype(jnp.int32))
    rows, width = ids_RX.shape
    return jnp.stack(words, axis=1).reshape(rows * len(words), width)


def pad(matrix: jax.Array, down: int, across: int, value: float = 0) -> jax.Array:
    """Extends both axes to multiples, at least one, of `down` and `across`."""
    sizes = (round_up(x, m) - x for x, m in zip(matrix.shape, (down, across), strict=True))
    return jnp.pad(matrix, [(0, more) for more in sizes], constant_values=value)


def round_up(x: int, multiple: int) -> int:
    """To a multiple, at least one."""
    return max(1, pl.cdiv(x, multiple)) * multiple
