"""Whole tables between their storage on the mesh and (V, D), which checkpoints hold.

A table is copied by it, one array after the other: at the start of a run, when it is saved or
restored, and before all of it is scored; never in a step.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
from jax.sharding import Mesh

from negflax.mesh import split
from negflax.tables.lines import Lines, rows_per_line, to_lines, to_rows
from negflax.tables.table import TableSpec, padded_rows


def stored_rows(spec: TableSpec, mesh: Mesh, lines: bool) -> int:
    """V of a table on the mesh: whole lines on every device, where it is stored in such."""
    per_line = rows_per_line(spec.width - spec.bias) if lines else 1
    return padded_rows(spec.num_rows, mesh.size * per_line)


def in_lines(table: dict[str, Any], bias: bool, mesh: Mesh, axes: tuple[str, ...]) -> Any:
    """A table's rows and slots (V, D) as lines; what has one value a row stays."""
    place = split(mesh, axes)

    def lay_out(x: jax.Array) -> Any:
        return _lay_out(place, bias)(x) if x.ndim == 2 else x

    return jax.tree.map(lay_out, table)


def plain(tree: Any) -> Any:
    """A state or a part of it with every table as (V, D); of shapes, their shapes."""

    def one(x: Any) -> Any:
        if not isinstance(x, Lines):
            return x
        place = x.lines_LW.sharding
        if isinstance(x.lines_LW, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)
        return _spread_out(place)(x)

    return jax.tree.map(one, tree, is_leaf=_is_lines)


def as_stored(tree: Any, target: Any) -> Any:
    """A tree of (V, D) tables stored as those of `target` are; the inverse of `plain`.

    Args:
      tree: a state or a part of it.
      target: the same tree of arrays, shapes or shardings, in the storage that is asked for.
    """

    def one(like: Any, x: Any) -> Any:
        if not isinstance(like, Lines):
            return x
        place = getattr(like.lines_LW, "sharding", like.lines_LW)
        return _lay_out(place, like.bias_V is not None)(x)

    return jax.tree.map(one, target, tree, is_leaf=_is_lines)


def _is_lines(x: Any) -> bool:
    return isinstance(x, Lines)


@functools.lru_cache
def _lay_out(place: jax.sharding.NamedSharding, bias: bool) -> Any:
    return _on_shards(functools.partial(to_lines, bias=bias), place)


@functools.lru_cache
def _spread_out(place: jax.sharding.NamedSharding) -> Any:
    return _on_shards(to_rows, place)


def _on_shards(function: Any, place: jax.sharding.NamedSharding) -> Any:
    """Shard by shard: no row leaves its device."""
    mapped = jax.shard_map(
        function, mesh=place.mesh, in_specs=place.spec, out_specs=place.spec, check_vma=False
    )
    return jax.jit(mapped)
