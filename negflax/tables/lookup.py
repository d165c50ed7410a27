"""The rows of a step: distinct ids found, their rows fetched once for all uses.

Runs inside shard_map. Shapes: K ids of this device, U distinct ids, V rows, D width.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from negflax.config import MeshConfig
from negflax.mesh import AXES
from negflax.tables import all_to_all
from negflax.tables.all_to_all import Merged
from negflax.tables.lines import Rows
from negflax.tables.table import distinct, gather, scatter_index


class Fetched(NamedTuple):
    """One table's rows of a step.

    Attributes:
      rows_UD: what this device reads; the loss is differentiated with respect to them.
      index: use → index into them.
      merge: gradient of rows_UD → what the devices together have for the rows held here.
    """

    rows_UD: jax.Array
    index: dict[str, jax.Array | slice]
    merge: Callable[[jax.Array], Merged]


def fetch(
    shard_VD: Rows, num_rows: int, uses: dict[str, jax.Array], whole: bool, mesh: MeshConfig
) -> Fetched:
    """The rows that a step reads of one table.

    Args:
      shard_VD: this device's rows.
      num_rows: V of the whole table; ids outside it read zeros and change nothing.
      uses: use → ids. `candidate` is the same on every device, the others are this device's.
      whole: every row is a candidate (full softmax): `candidate` is the shard as it stands, and
        no table is gathered.
      mesh: its row axes and form of lookup.
    """
    if whole:
        asked = {use: ids for use, ids in uses.items() if use != "candidate"}
        return _with_shard(
            shard_VD, fetch(shard_VD, num_rows, asked, False, psum_lookup(mesh)), mesh.rows
        )
    shards = lax.axis_size(mesh.rows)
    nowhere = len(shard_VD) * shards  # beyond the padded table: no shard has it
    uses = {
        use: jnp.where((ids >= 0) & (ids < num_rows), ids, nowhere) for use, ids in uses.items()
    }
    own = {use: ids for use, ids in uses.items() if use != "candidate"}
    own_K = jnp.concatenate([ids.reshape(-1) for ids in own.values()])
    shared_S = uses.get("candidate", jnp.zeros(0, own_K.dtype)).reshape(-1)
    row_bytes = shard_VD.shape[1] * shard_VD.dtype.itemsize
    gradient_bytes = shard_VD.shape[1] * max(4, shard_VD.dtype.itemsize)  # of bfloat16 rows: 4
    form = all_to_all.form(
        mesh.lookup, len(own_K), len(shared_S), nowhere, row_bytes, gradient_bytes, shards
    )
    by_form = _fetch_by_psum if form == "psum" else _fetch_all_to_all
    rows_UD, own_place, shared_place, merge = by_form(shard_VD, own_K, shared_S, mesh.rows)
    index: dict[str, jax.Array | slice] = {}
    if len(shared_S):
        index["candidate"] = shared_place.reshape(uses["candidate"].shape)
    for use, ids in own.items():
        index[use], own_place = own_place[: ids.size].reshape(ids.shape), own_place[ids.size :]
    return Fetched(rows_UD, index, merge)


def update(merged: Merged, table: Any, apply: Callable[[Any, jax.Array, jax.Array], Any]) -> Any:
    """The table after `apply(table, place_W, gradient_WD)` for every round's rows, once each."""
    table = apply(table, merged.place_W, merged.gradient_WD)
    if merged.again is None:
        return table
    return lax.fori_loop(
        0, merged.rounds - 1, lambda i, table: apply(table, *merged.again(i)), table
    )


def psum_lookup(mesh: MeshConfig) -> MeshConfig:
    """The same mesh with lookups in one round, for updates of every row."""
    return dataclasses.replace(mesh, lookup="psum")


def _with_shard(shard_VD: jax.Array, asked: Fetched, axes: tuple[str, ...]) -> Fetched:
    """What was asked for, and behind it all rows that this device holds, as candidates."""
    copies, size = tuple(axis for axis in AXES if axis not in axes), len(asked.rows_UD)

    def merge(gradient_UD: jax.Array) -> Merged:
        sparse, gradient_VD = asked.merge(gradient_UD[:size]), gradient_UD[size:]
        gradient_VD = lax.psum(gradient_VD, copies) if copies else gradient_VD
        gradient_VD = gradient_VD.at[sparse.place_W].add(sparse.gradient_WD, mode="drop")
        places_V = jnp.arange(len(shard_VD), dtype=jnp.int32)
        return Merged(jnp.sum(gradient_VD**2), places_V, gradient_VD, 1, None)

    rows_UD = jnp.concatenate([asked.rows_UD, shard_VD])
    return Fetched(rows_UD, asked.index | {"candidate": slice(size, None)}, merge)


def _fetch_by_psum(shard_VD, own_K, shared_S, axes):
    """Every device gets the rows that all of them ask for."""
    nowhere = len(shard_VD) * lax.axis_size(axes)
    everyones = lax.all_gather(own_K, AXES, tiled=True)
    ids_U, place = distinct(jnp.concatenate([everyones, shared_S]), nowhere)
    own_place = lax.dynamic_slice_in_dim(place, lax.axis_index(AXES) * len(own_K), len(own_K))
    merge = functools.partial(_merge_by_psum, shard_VD, ids_U, axes)
    return gather(shard_VD, ids_U, axes), own_place, place[len(everyones) :], merge


def _merge_by_psum(shard_VD, ids_U, axes, gradient_UD) -> Merged:
    place_U = scatter_index(shard_VD, ids_U, axes)
    here_U = place_U < len(shard_VD)
    gradient_UD = jnp.where(here_U[:, None], lax.psum(gradient_UD, AXES), 0)
    return Merged(jnp.sum(gradient_UD**2), place_U, gradient_UD, 1, None)


def _fetch_all_to_all(shard_VD, own_K, shared_S, axes):
    """Every device gets its own rows from their owners, and the shared ones by psum."""
    nowhere = len(shard_VD) * lax.axis_size(axes)
    copies = tuple(axis for axis in AXES if axis not in axes)
    ids_U, own_place = distinct(own_K, nowhere)
    way = all_to_all.route(ids_U, len(shard_VD), axes, AXES)
    rows_UD = all_to_all.fetch(shard_VD, way, axes)
    shared_SD = gather(shard_VD, shared_S, axes)
    place_S = scatter_index(shard_VD, shared_S, axes)

    def merge(gradient_UD: jax.Array) -> Merged:
        shared_gradient_SD = lax.psum(gradient_UD[len(ids_U) :], AXES)

        def arrivals(i: jax.Array) -> tuple[jax.Array, jax.Array]:
            place_W, gradient_WD = all_to_all.send_back(
                gradient_UD[: len(ids_U)], way, i, len(shard_VD), axes, copies
            )
            now_S = jnp.where(place_S % way.rounds == i, place_S, len(shard_VD))
            return (
                jnp.concatenate([place_W, now_S]),
                jnp.concatenate([gradient_WD, shared_gradient_SD]),
            )

        return all_to_all.merge(arrivals, way.rounds, len(shard_VD))

    shared_place = jnp.arange(len(ids_U), len(ids_U) + len(shared_S), dtype=jnp.int32)
    return jnp.concatenate([rows_UD, shared_SD]), own_place, shared_place, merge
