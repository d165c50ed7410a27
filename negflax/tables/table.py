"""Row-sharded tables: start values, the rows of a step, and their lookup.

A step never differentiates a table. It gathers the distinct rows it touches, differentiates with
respect to those, and hands their gradient to the row optimizer: duplicates are merged exactly by
the gather's own gradient, and no array of the table's size appears.

Shapes: V rows of a table, U ids, D width.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from negflax.mesh import AXES, platform, split
from negflax.tables import lines
from negflax.tables.lines import Rows


@dataclasses.dataclass(frozen=True)
class TableSpec:
    """One table: `num_rows` rows of `width` values, started as N(0, scale²) but for bias columns.

    Attributes:
      num_rows: V with reserved rows, before it is rounded up to the number of devices.
      width: columns, bias included.
      scale: standard deviation of the start values.
      bias: the last column starts at 0 (item bias).
    """

    num_rows: int
    width: int
    scale: float
    bias: bool = False


def padded_rows(num_rows: int, devices: int) -> int:
    """V rounded up to a multiple of the device count; the added rows are never looked up."""
    return -(-num_rows // devices) * devices


def init_rows(
    key: jax.Array,
    spec: TableSpec,
    mesh: Mesh,
    dtype: str,
    axes: tuple[str, ...] = AXES,
    length: int | None = None,
) -> jax.Array:
    """Start values (V padded, D), made shard by shard; equal for any number of devices.

    V is padded to `length`, by default to a multiple of the device count.
    """

    @functools.partial(jax.jit, out_shardings=split(mesh, axes))
    def make(key):
        shape = length or padded_rows(spec.num_rows, mesh.size), spec.width
        rows = jax.random.normal(key, shape, dtype) * spec.scale
        return rows.at[:, -1].set(0) if spec.bias else rows

    return make(key)


def gather(shard_VD: Rows, ids_U: jax.Array, axes: tuple[str, ...] = AXES) -> jax.Array:
    """Rows of a table from its shards, inside shard_map: each device adds the rows it holds.

    Ids outside the table give zeros. Rows are sharded over `axes`.
    """
    return lax.psum(lines.read(shard_VD, scatter_index(shard_VD, ids_U, axes), 0), axes)


def scatter_index(shard_VD: Rows, ids_U: jax.Array, axes: tuple[str, ...] = AXES) -> jax.Array:
    """Local row of each id for `.at[…]` with mode="drop": beyond the shard where it is not here."""
    local_U = ids_U - lax.axis_index(axes) * len(shard_VD)
    return jnp.where((local_U >= 0) & (local_U < len(shard_VD)), local_U, len(shard_VD))


def distinct(ids_K: jax.Array, num_rows: int) -> tuple[jax.Array, jax.Array]:
    """(ids_U, index_K): the distinct ids in ascending order, and each id's place among them.

    U = min(K, num_rows + 1) is static; unused places hold `num_rows`, and so does every id outside
    0..num_rows − 1. It lies beyond the table, so that lookups give 0 there and updates are dropped.

    One sort of the ids alone, then a binary search for each, without branches: on a CPU a third of
    the time of jnp.unique, whose argsort drags the places along, and less than jnp.searchsorted
    (docs/tables.md has the alternatives). Accelerators, which sort well and search badly, sort
    three times instead.
    """
    size = min(len(ids_K), num_rows + 1)
    ids_K = jnp.where((ids_K >= 0) & (ids_K < num_rows), ids_K, num_rows)
    if platform() != "cpu":
        return _distinct_by_sorting(ids_K, num_rows, size)
    sorted_K = jnp.sort(ids_K)
    rank_K = jnp.cumsum(jnp.diff(sorted_K, prepend=-1) != 0) - 1
    levels = max(size - 1, 0).bit_length()
    ids_P = jnp.full(1 << levels, num_rows, ids_K.dtype).at[rank_K].set(sorted_K)
    index_K = jnp.zeros(len(ids_K), jnp.int32)
    for level in reversed(range(levels)):
        step = 1 << level
        index_K = jnp.where(ids_P[index_K + (step - 1)] < ids_K, index_K + step, index_K)
    return ids_P[:size], index_K


def _distinct_by_sorting(ids_K: jax.Array, num_rows: int, size: int) -> tuple[jax.Array, jax.Array]:
    """`distinct` of ids from 0 to num_rows: neither gathers nor scatters."""
    places_K = jnp.arange(len(ids_K), dtype=jnp.int32)
    sorted_K, from_K = lax.sort((ids_K, places_K), num_keys=1)
    first_K = jnp.diff(sorted_K, prepend=-1) != 0
    rank_K = jnp.cumsum(first_K, dtype=jnp.int32) - 1
    ids_U = jnp.sort(jnp.where(first_K, sorted_K, num_rows))[:size]
    return ids_U, lax.sort((from_K, rank_K), num_keys=1)[1]
