"""All-to-all lookup: each device requests rows from their owners and sends gradients back.

The traffic of a device grows with the number of rows it requests; with psum (`table.gather`) it
grows with the number that all devices request. Shards hold blocks of consecutive rows, so the owner
of an id is id // rows per shard. A device sends at most C requests to an owner per round, which
bounds the buffers; if popular rows share a shard, there are several rounds, and no request is
dropped. All devices request a given row in the same round, so that its gradients are merged
exactly.

Runs inside shard_map. Shapes: P shards, C capacity of a bucket, U distinct ids of this device, W
requested rows of this shard, V rows of the shard, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from negflax.tables import lines
from negflax.tables.lines import Rows
from negflax.tables.table import distinct

SLACK = 2  # capacity of a bucket, as a multiple of the mean number of ids in it
ID_BYTES = 4
COLLECTIVES = {"psum": 3, "all_to_all": 7}  # number of sequential collectives per table and step
LATENCY_BYTES = 2**18  # latency of a collective as bytes of traffic: 10 µs at 25 GB/s

Axes = tuple[str, ...]  # mesh axes over which the rows of a table are sharded


def capacity(ids: int, shards: int) -> int:
    """Returns C, the number of rows that a device may request from one shard in a round."""
    return min(ids, -(-SLACK * ids // shards))


def moved_bytes(
    form: str,
    ids: int,
    shared: int,
    table_rows: int,
    row_bytes: int,
    gradient_bytes: int,
    shards: int,
) -> dict[str, float]:
    """Returns the bytes that a device sends per step for one table, if there is one round.

    Collectives are assumed to use rings or pairwise exchange.

    Args:
      form: `psum` or `all_to_all`.
      ids: number of ids that a device requests, duplicates included.
      shared: number of ids that all devices request (candidates).
      table_rows: number of rows of the whole table.
      row_bytes: bytes of a row.
      gradient_bytes: bytes of a row's gradient.
      shards: number of shards P.

    Returns:
      Collective → bytes, in order of execution.
    """
    others = (shards - 1) / shards
    if form == "psum":
        reduced = 2 * others * min(shards * ids + shared, table_rows + 1)
        return {
            "all-gather ids": (shards - 1) * ids * ID_BYTES,
            "all-reduce rows": reduced * row_bytes,
            "all-reduce gradients": reduced * gradient_bytes,
        }
    asked = others * shards * capacity(min(ids, table_rows + 1), shards)
    reduced = 2 * others * shared
    return {
        "all-to-all ids": 2 * asked * ID_BYTES,  # with the requests, and with the gradients
        "all-to-all rows": asked * row_bytes,
        "all-reduce candidates": reduced * row_bytes,
        "all-to-all gradients": asked * gradient_bytes,
        "all-reduce gradients of candidates": reduced * gradient_bytes,
    }


def form(lookup: str, *sizes: int) -> str:
    """Returns the form of lookup, `psum` or `all_to_all`; `auto` is the cheaper one.

    The cost is the number of bytes sent plus LATENCY_BYTES for each collective.

    Args:
      lookup: config.mesh.lookup: `auto`, `psum` or `all_to_all`.
      *sizes: as in `moved_bytes`.
    """

    def cost(form: str) -> float:
        return sum(moved_bytes(form, *sizes).values()) + COLLECTIVES[form] * LATENCY_BYTES

    return min(COLLECTIVES, key=cost) if lookup == "auto" else lookup


class Route(NamedTuple):
    """Round, owner and place in the bucket of each of this device's U ids.

    Attributes:
      rounds: number of rounds, a scalar that is equal on all devices.
      round_U: round in which the id is requested.
      owner_U: shard that holds it; P, beyond the buckets, if none does.
      place_U: its place in the bucket of that owner and round.
      local_U: its row in the shard.
    """

    rounds: jax.Array
    round_U: jax.Array
    owner_U: jax.Array
    place_U: jax.Array
    local_U: jax.Array


def route(ids_U: jax.Array, shard_rows: int, axes: Axes, everyone: Axes) -> Route:
    """Returns the route of distinct ids; ids outside the table are not requested.

    Args:
      ids_U: int32 ids.
      shard_rows: number of rows of a shard V.
      axes: mesh axes over which rows are sharded.
      everyone: all axes of the mesh, over which the number of rounds is agreed.
    """
    shards, most = lax.axis_size(axes), capacity(len(ids_U), lax.axis_size(axes))
    inside = (ids_U >= 0) & (ids_U < shards * shard_rows)
    owner_U = jnp.where(inside, ids_U // shard_rows, shards)
    local_U = jnp.where(inside, ids_U % shard_rows, shard_rows)

    def places(rounds: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the place of each id in its bucket, and the size of the largest bucket."""
        key_U = owner_U * rounds + jnp.where(inside, local_U % rounds, 0)
        order_U = jnp.argsort(key_U)
        sorted_U, here_U = key_U[order_U], jnp.arange(len(ids_U), dtype=jnp.int32)
        begins_U = jnp.concatenate([jnp.ones(1, bool), sorted_U[1:] != sorted_U[:-1]])
        rank_U = here_U - lax.cummax(jnp.where(begins_U, here_U, 0))
        place_U = jnp.zeros_like(here_U).at[order_U].set(rank_U)
        return place_U, lax.pmax(jnp.max(jnp.where(inside, place_U, -1)) + 1, everyone)

    def double(carry):
        rounds = carry[0] * 2
        return rounds, *places(rounds)

    one = jnp.ones((), jnp.int32)
    rounds, place_U, _ = lax.while_loop(lambda carry: carry[2] > most, double, (one, *places(one)))
    return Route(rounds, jnp.where(inside, local_U % rounds, 0), owner_U, place_U, local_U)


def fetch(shard_VD: Rows, way: Route, axes: Axes) -> jax.Array:
    """Returns the rows of the routed ids, (U, D); zeros for ids outside the table."""

    def one_round(i: jax.Array, rows_UD: jax.Array) -> jax.Array:
        asked_PC = _ask(way, i, len(shard_VD), axes)
        found_PCD = lines.read(shard_VD, asked_PC, 0)
        answer_PCD = lax.all_to_all(found_PCD, axes, 0, 0)
        mine = way.round_U == i
        new_UD = answer_PCD.at[way.owner_U, way.place_U].get(mode="fill", fill_value=0)
        return jnp.where(mine[:, None], new_UD, rows_UD)

    start = jnp.zeros((len(way.local_U), shard_VD.shape[1]), shard_VD.dtype)
    return lax.fori_loop(0, way.rounds, one_round, start)


def send_back(
    gradient_UD: jax.Array, way: Route, i: jax.Array, shard_rows: int, axes: Axes, copies: Axes
) -> tuple[jax.Array, jax.Array]:
    """Returns (local rows, gradients) received in round i, with duplicates not yet merged.

    Args:
      gradient_UD: gradients of the rows that `fetch` returned.
      way: route of the rows.
      i: round.
      shard_rows: number of rows of a shard V.
      axes: mesh axes over which rows are sharded.
      copies: the other axes; devices along them hold the same rows and need the same sum.
    """
    shards, width = lax.axis_size(axes), gradient_UD.shape[1]
    bucket_PCD = jnp.zeros((shards, _bucket_size(way, axes), width), gradient_UD.dtype)
    owner_U = jnp.where(way.round_U == i, way.owner_U, shards)
    bucket_PCD = bucket_PCD.at[owner_U, way.place_U].set(gradient_UD, mode="drop")
    local_W = _ask(way, i, shard_rows, axes).reshape(-1)
    gradient_WD = lax.all_to_all(bucket_PCD, axes, 0, 0).reshape(-1, width)
    if copies:
        local_W, gradient_WD = lax.all_gather((local_W, gradient_WD), copies, tiled=True)
    return local_W, gradient_WD


def _ask(way: Route, i: jax.Array, shard_rows: int, axes: Axes) -> jax.Array:
    """Returns the rows of this shard requested by each device in round i, (P, C).

    Empty places have the value `shard_rows`.
    """
    shards = lax.axis_size(axes)
    nothing_PC = jnp.full((shards, _bucket_size(way, axes)), shard_rows, jnp.int32)
    owner_U = jnp.where(way.round_U == i, way.owner_U, shards)
    return lax.all_to_all(
        nothing_PC.at[owner_U, way.place_U].set(way.local_U, mode="drop"), axes, 0, 0
    )


def _bucket_size(way: Route, axes: Axes) -> int:
    return capacity(len(way.local_U), lax.axis_size(axes))


class Merged(NamedTuple):
    """Gradients of the rows of this device, summed over devices and duplicates.

    Attributes:
      square: sum of their squares over all rounds.
      place_W: distinct local rows of the last round; values ≥ V are padding.
      gradient_WD: their gradients.
      rounds: number of rounds; 1 unless a bucket was full.
      again: function of i that returns (place_W, gradient_WD) of round i.
    """

    square: jax.Array
    place_W: jax.Array
    gradient_WD: jax.Array
    rounds: jax.Array | int
    again: Callable[[jax.Array], tuple[jax.Array, jax.Array]] | None


def merge(
    arrivals: Callable[[jax.Array], tuple[jax.Array, jax.Array]], rounds: jax.Array, shard_rows: int
) -> Merged:
    """Merges the gradients of each round; keeps those of the last round, and the norm of all."""

    def one_round(i: jax.Array) -> tuple[jax.Array, jax.Array]:
        local_K, gradient_KD = arrivals(i)
        place_W, index_K = distinct(local_K, shard_rows)
        zeros_WD = jnp.zeros((len(place_W), gradient_KD.shape[1]), gradient_KD.dtype)
        merged_WD = zeros_WD.at[index_K].add(gradient_KD)
        return place_W, jnp.where((place_W < shard_rows)[:, None], merged_WD, 0)

    def add(i: jax.Array, carry: Any) -> Any:
        place_W, gradient_WD = one_round(i)
        return carry[0] + jnp.sum(gradient_WD**2), place_W, gradient_WD

    place, gradient = jax.eval_shape(one_round, rounds)
    start = (
        jnp.zeros((), gradient.dtype),
        jnp.full(place.shape, shard_rows, place.dtype),
        jnp.zeros(gradient.shape, gradient.dtype),
    )
    square, place_W, gradient_WD = lax.fori_loop(0, rounds, add, start)
    return Merged(square, place_W, gradient_WD, rounds, one_round)
