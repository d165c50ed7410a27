"""Exact top-K of the whole catalogue: row-sharded, chunk by chunk, without an array users × rows.

The K best items lie within the K blocks of consecutive rows whose maxima are largest. So a first
pass keeps of each product only the maximum of every block; then the best blocks are found among
those, in two levels; their rows are scored again and ranked. Lists of shards are merged. Excluded
items need no mask: with H of them the K + H best items hold the K best of the others.

Of equal scores the lower row comes first: blocks are consecutive rows, shards consecutive blocks,
and `lax.top_k` puts the lower index first. Memory beyond table and result is one block of users:
their block maxima, V / BLOCK a user, and _REFINED candidate values.

A calibration (negflax/calibration/) adds to a row's score what its kind has for the user, tile by
tile.

Shapes: R users, D width, V rows of the table, v rows of a shard, c rows of a chunk, A blocks of a
shard, B of a chunk, W blocks that are looked into, K list length, H excluded rows of a user.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import Mesh

from negflax.calibration.kind_shift import Shift
from negflax.mesh import AXES, COPIED, SPLIT, exact_products, platform

BLOCK = 16  # rows behind one maximum
GROUP = 16  # maxima behind one maximum of the second level
CHUNK = 2048  # rows of a product, a multiple of BLOCK · GROUP: small enough for the cache
_REFINED = 2_000_000  # values of looked-up rows alive at a time, 8 MB
_BISECTIONS = 6  # of a user's values before a top-K
_FUSED_ROWS = 4  # of a block, between two barriers
# More blocks than needed: the second scores of a row may differ from the first in the last bit.
_SLACK = 8
SURE = "promise_in_bounds"


Shifts = tuple[tuple[jax.Array, Shift], ...]  # of each kind: kind of every row (v,), its Shift


class Queries(NamedTuple):
    """What is searched for, with what a calibration adds.

    Attributes:
      states_RD: the users' vectors.
      shifts: corrections by kind; none without a calibration.
    """

    states_RD: jax.Array
    shifts: Shifts = ()

    @property
    def arguments(self) -> tuple[Shifts, ...]:
        """What follows the arguments of a function that was made for as many kinds."""
        return (self.shifts,) if self.shifts else ()


@functools.lru_cache(maxsize=32)
def top_k_function(
    mesh: Mesh, num_rows: int, k: int, recall: float = 1.0, bias: bool = False, kinds: int = 0
) -> Any:
    """Jitted (queries (R, D), rows (V, D) sharded, excluded (R, H)) → (rows (R, K), scores (R, K)).

    With `kinds`, of a calibration, the shifts of as many kinds follow as a fourth argument.

    Args:
      mesh: over whose devices the table is split.
      num_rows: rows from here on, reserved or padding, are no items; row 0 is none either.
      k: K, list length.
      recall: below 1: blocks are chosen by `lax.approx_max_k` with this expected recall, which is
        faster than the exact choice on TPUs; elsewhere it is exact, and slower.
      bias: the rows' last column is a bias, which queries of one value less are given a one for.
      kinds: number of kinds whose shifts are added.

    Returns:
      A function that gives int32 rows by falling score, 0 with score -inf where a list has ended,
      and float32 scores, NaN for a user whose query is not finite. `excluded` holds rows that are
      not listed, filled up with 0. The table must be finite (`check_finite` of scoring.py): maxima
      need not show a NaN.
    """

    def on_shard(
        queries_RD: jax.Array, rows_vD: jax.Array, excluded_RH: jax.Array, shifts: Shifts = ()
    ) -> Any:
        if bias:
            queries_RD = jnp.pad(queries_RD, ((0, 0), (0, 1)), constant_values=1)
        queries = Queries(queries_RD, shifts)
        with exact_products():
            return top_k_of_shard(
                queries, rows_vD, excluded_RH, num_rows=num_rows, k=k, recall=recall
            )

    return jax.jit(
        jax.shard_map(
            on_shard,
            mesh=mesh,
            check_vma=False,
            in_specs=(COPIED, SPLIT, COPIED, *shift_specs(kinds)),
            out_specs=(COPIED, COPIED),
        )
    )


def shift_specs(kinds: int) -> tuple[Any, ...]:
    """How the shifts of so many kinds lie on the mesh, as further arguments of a program."""
    return (((SPLIT, COPIED),) * kinds,) if kinds else ()


def shifted(shifts: Shifts, of_rows: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """(c, R) what all kinds add, of the rows that `of_rows` takes from an array over all of them.

    Users are the minor axis, so that whole vectors are read.
    """
    parts = [
        jnp.asarray(shift.bias_GR)
        .at[jnp.asarray(shift.slot_K).at[of_rows(kind_v)].get(mode=SURE)]
        .get(mode=SURE)
        for kind_v, shift in shifts
    ]
    return functools.reduce(jnp.add, parts)


def top_k_of_shard(
    queries: Queries,
    rows_vD: jax.Array,
    excluded_RH: jax.Array,
    *,
    num_rows: int,
    k: int,
    recall: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """The same inside shard_map: this shard's list, merged with those of the others."""
    first = lax.axis_index(AXES) * len(rows_vD)
    found = top_k_of_rows(
        queries, rows_vD, excluded_RH, first, num_rows=num_rows, k=k, recall=recall
    )
    row_RK, score_RK = found
    if lax.axis_size(AXES) > 1:
        row_RnK, score_RnK = (
            jnp.moveaxis(lax.all_gather(x, AXES), 0, 1).reshape(len(x), -1) for x in found
        )
        score_RK, place_RK = top_k_of_scores(score_RnK, k)
        row_RK = jnp.take_along_axis(row_RnK, place_RK, axis=1)
    whole_R = jnp.isfinite(queries.states_RD).all(axis=1)
    for _, shift in queries.shifts:
        whole_R &= jnp.isfinite(shift.bias_GR).all(axis=0)
    return row_RK, jnp.where(whole_R[:, None], score_RK, jnp.nan)


def top_k_of_rows(
    queries: Queries,
    rows_vD: jax.Array,
    excluded_RH: jax.Array,
    first: jax.Array | int = 0,
    *,
    num_rows: int,
    k: int,
    recall: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """The list of a table's rows from `first` on, on one device and within any program."""
    # A maximum each is spoiled by an excluded row, by row 0 and by the block where the items end.
    wanted = k + excluded_RH.shape[1] + 1 + 1 + _SLACK
    if len(rows_vD) <= max(CHUNK, 2 * wanted * BLOCK):  # few rows: all of them
        scores_Rv = queries.states_RD @ rows_vD.T
        if queries.shifts:
            scores_Rv += shifted(queries.shifts, lambda kind_v: kind_v).T
        row_Rv = jnp.broadcast_to(first + jnp.arange(len(rows_vD)), scores_Rv.shape)
        return _listed(scores_Rv, row_Rv, excluded_RH, num_rows, k)
    maxima_AR, group_RG = _block_maxima(queries, rows_vD, num_rows - first)
    block_RW = jnp.sort(_best_blocks(maxima_AR, group_RG, wanted, recall), axis=1)
    scores_RC, row_RC = _look_into(rows_vD, queries.states_RD, block_RW)
    if beyond := len(rows_vD) - _in_blocks(len(rows_vD)):  # fewer than a block: always looked into
        row_Re = jnp.broadcast_to(len(rows_vD) - beyond + jnp.arange(beyond), (len(row_RC), beyond))
        scores_RC = jnp.hstack([scores_RC, queries.states_RD @ rows_vD[-beyond:].T])
        row_RC = jnp.hstack([row_RC, row_Re])
    for kind_v, shift in queries.shifts:
        user_R1 = jnp.arange(len(row_RC))[:, None]
        scores_RC += shift.bias_GR[shift.slot_K[kind_v[row_RC]], user_R1]
    return _listed(scores_RC, first + row_RC, excluded_RH, num_rows, k)


def _in_blocks(num_rows: int) -> int:
    """Number of rows in whole blocks."""
    return num_rows // BLOCK * BLOCK


def _chunk_start(chunk: jax.Array, num_rows: int) -> jax.Array:
    """First row of a chunk; the last one is read from further up, so that it is whole too.

    It ends with the last whole block, so that every block starts at a multiple of BLOCK.
    """
    return jnp.minimum(chunk * CHUNK, _in_blocks(num_rows) - CHUNK)


def _block_maxima(
    queries: Queries, rows_vD: jax.Array, items: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Largest score of each block of rows (A, R), and of each GROUP of blocks (R, groups).

    Blocks of the last chunk that lie within the one before it have -inf, and so have those beyond
    the shard's first `items` rows. Users are the minor axis of products and maxima, so that maxima
    over rows are maxima of whole vectors.
    """
    queries_RD = queries.states_RD

    def one(chunk: jax.Array) -> tuple[jax.Array, jax.Array]:
        start = _chunk_start(chunk, len(rows_vD))
        rows_cD = lax.dynamic_slice_in_dim(rows_vD, start, CHUNK)
        # Product and maximum are one kernel of XLA's CPU.
        scores_cR = rows_cD @ queries_RD.T
        kinds = [lax.dynamic_slice_in_dim(kind_v, start, CHUNK) for kind_v, _ in queries.shifts]
        shifts = tuple((kind_c, x) for kind_c, (_, x) in zip(kinds, queries.shifts, strict=True))
        first_B = start + BLOCK * jnp.arange(CHUNK // BLOCK)
        asked_B = (first_B >= chunk * CHUNK) & (first_B < items)
        maxima_BR = _maxima_of_chunk(scores_cR, shifts, asked_B)
        return maxima_BR, maxima_BR.reshape(-1, GROUP, len(queries_RD)).max(axis=1)

    found = lax.map(one, jnp.arange(-(-_in_blocks(len(rows_vD)) // CHUNK)))
    maxima_AR, group_GR = (x.reshape(-1, len(queries_RD)) for x in found)
    return maxima_AR, group_GR.T


def _maxima_of_chunk(scores_cR: jax.Array, shifts: Shifts, asked_B: jax.Array) -> jax.Array:
    """(B, R) largest score of each block, with what all kinds add; -inf if it is not asked for."""
    scores_BbR = scores_cR.reshape(-1, BLOCK, scores_cR.shape[1])
    if not shifts or platform() != "cpu":
        if shifts:
            scores_BbR += shifted(shifts, lambda kind_c: kind_c).reshape(scores_BbR.shape)
        return jnp.where(asked_B[:, None], scores_BbR.max(axis=1), -jnp.inf)
    # On CPUs row by row of the blocks, in one kernel, which does not write what it looks up first.
    # XLA makes one of it only with these barriers, and with a maximum as the last operation.
    slots = [jnp.asarray(shift.slot_K).at[kind_c].get(mode=SURE) for kind_c, shift in shifts]
    maxima_BR = jnp.full_like(scores_BbR[:, 0], -jnp.inf)
    for row in range(BLOCK):
        row_BR = scores_BbR[:, row]
        for slot_c, (_, shift) in zip(slots, shifts, strict=True):
            slot_B = slot_c.reshape(-1, BLOCK)[:, row]
            row_BR += jnp.asarray(shift.bias_GR).at[slot_B].get(mode=SURE)
        maxima_BR = jnp.maximum(maxima_BR, jnp.where(asked_B[:, None], row_BR, -jnp.inf))
        if row % _FUSED_ROWS == _FUSED_ROWS - 1:
            maxima_BR = lax.optimization_barrier(maxima_BR)
    return maxima_BR


def _best_blocks(
    maxima_AR: jax.Array, group_RG: jax.Array, wanted: int, recall: float
) -> jax.Array:
    """(R, W) numbers of the blocks with the largest maxima, of equal ones the first."""
    if recall < 1:
        return lax.approx_max_k(maxima_AR.T, wanted, recall_target=recall)[1]
    if group_RG.shape[1] <= 2 * wanted:
        return top_k_of_scores(maxima_AR.T, wanted)[1]
    group_RW = jnp.sort(top_k_of_scores(group_RG, wanted)[1], axis=1)
    block_RWG = group_RW[:, :, None] * GROUP + jnp.arange(GROUP)
    block_RN = block_RWG.reshape(len(group_RW), -1)
    maxima_RN = maxima_AR[block_RN, jnp.arange(len(group_RW))[:, None]]
    place_RW = top_k_of_scores(maxima_RN, wanted)[1]
    return jnp.take_along_axis(block_RN, place_RW, axis=1)


def _look_into(
    rows_vD: jax.Array, queries_RD: jax.Array, block_RW: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(scores, rows of the shard) of all that the blocks hold, both (R, W · BLOCK), in row order.

    Rows of the last chunk that belong to the one before it get -inf.
    """
    chunk_RW, within_RW = jnp.divmod(block_RW, CHUNK // BLOCK)
    start_RW = _chunk_start(chunk_RW, len(rows_vD)) + within_RW * BLOCK
    by_columns, on_cpu = _stored_by_columns(rows_vD.shape[1]), platform() == "cpu"
    take = functools.partial(lax.dynamic_slice_in_dim, rows_vD, slice_size=BLOCK)

    def of_block(start: jax.Array, query_D: jax.Array) -> jax.Array:
        return with_layout_constraint(take(start), Layout((1, 0))) @ query_D

    def of_user(user: tuple[jax.Array, jax.Array]) -> jax.Array:
        query_D, start_W = user
        if by_columns:  # one by one: for a gather XLA would copy the whole table into rows
            return lax.map(functools.partial(of_block, query_D=query_D), start_W)
        if not on_cpu:
            return jnp.einsum("wbd,d->wb", jax.vmap(take)(start_W), query_D)
        # A block is one piece of memory, copied as a whole; then product and sum are one kernel, in
        # a third of the time of the product of a matrix by one vector.
        width = rows_vD.shape[1]
        blocks = rows_vD[: _in_blocks(len(rows_vD))].reshape(-1, BLOCK * width)
        rows_CD = blocks.at[start_W // BLOCK].get(mode=SURE).reshape(-1, width)
        return (rows_CD * query_D).sum(axis=1).reshape(-1, BLOCK)

    together = max(1, _REFINED // (block_RW.shape[1] * BLOCK * rows_vD.shape[1]))
    alone = by_columns or on_cpu  # where one user's blocks fill the cache
    together = None if alone else min(together, len(queries_RD))
    scores_RWb = lax.map(of_user, (queries_RD, start_RW), batch_size=together)
    row_RWb = start_RW[:, :, None] + jnp.arange(BLOCK)
    scores_RWb = jnp.where(row_RWb >= chunk_RW[:, :, None] * CHUNK, scores_RWb, -jnp.inf)
    return scores_RWb.reshape(len(block_RW), -1), row_RWb.reshape(len(block_RW), -1)


def _stored_by_columns(width: int) -> bool:
    """Whether a table (V, width) lies column by column: on TPUs, whose tiles are 8 × 128 values.

    Its longer side then fills the 128 lanes wherever rows would leave more of a tile empty.
    """
    return platform() == "tpu" and -(-width // 8) * 8 < -(-width // 128) * 128


def _listed(
    scores_RC: jax.Array, row_RC: jax.Array, excluded_RH: jax.Array, num_rows: int, k: int
) -> tuple[jax.Array, jax.Array]:
    """(rows, scores) of the K best candidates that may be listed; candidates are in row order."""
    item_RC = (row_RC > 0) & (row_RC < num_rows)
    scores_RC = jnp.where(item_RC, scores_RC.astype(jnp.float32), -jnp.inf)
    take = min(k + excluded_RH.shape[1], scores_RC.shape[1])
    score_RT, place_RT = top_k_of_scores(scores_RC, take)
    row_RT = jnp.take_along_axis(row_RC, place_RT, axis=1)
    if excluded_RH.shape[1]:
        excluded_RT = (row_RT[:, :, None] == excluded_RH[:, None, :]).any(axis=2)
        # The k-th listed one stands behind all places up to which fewer are.
        listed_RT = jnp.cumsum(~excluded_RT, axis=1)
        place_RK = (listed_RT[:, :, None] <= jnp.arange(k)).sum(axis=1)
        score_RT = jnp.take_along_axis(score_RT, place_RK, axis=1, mode="fill", fill_value=-jnp.inf)
        row_RT = jnp.take_along_axis(row_RT, place_RK, axis=1, mode="fill", fill_value=0)
    if (missing := k - row_RT.shape[1]) > 0:  # a shard of fewer rows than the list is long
        score_RT = jnp.pad(score_RT, ((0, 0), (0, missing)), constant_values=-jnp.inf)
        row_RT = jnp.pad(row_RT, ((0, 0), (0, missing)))
    return jnp.where(score_RT > -jnp.inf, row_RT, 0).astype(jnp.int32), score_RT


def top_k_of_scores(values_RN: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """`lax.top_k`, exactly, in half of its time on CPUs, where each user has a heap of K.

    A few bisections find a value that K are not below; what is, need not go through the heap.
    """
    finite_RN = jnp.isfinite(values_RN)
    low_R1 = jnp.min(values_RN, axis=1, keepdims=True, where=finite_RN, initial=jnp.inf)
    high_R1 = values_RN.max(axis=1, keepdims=True)
    for _ in range(_BISECTIONS):
        middle_R1 = (low_R1 + high_R1) / 2
        enough_R1 = (values_RN >= middle_R1).sum(axis=1, keepdims=True) >= k
        low_R1 = jnp.where(enough_R1, middle_R1, low_R1)
        high_R1 = jnp.where(enough_R1, high_R1, middle_R1)
    return lax.top_k(jnp.where(values_RN >= low_R1, values_RN, -jnp.inf), k)
