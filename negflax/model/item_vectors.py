"""Given vectors of items, such as embeddings of texts, projected into the items' vectors.

Of an item without training events, its own row says nothing; its given vector does, by a projection
that is learned from the other items (docs/method.md §4). The vectors are constants: split over the
devices as the rows of item tables, looked up in the same way, but no gradient reaches them, no
optimizer has slots for them, and no checkpoint holds them: the catalogue does. Scoring adds the
projections to the whole table once, and then knows nothing of them.

Shapes: V items, v rows of a device, W width of the given vectors, D width of an item's vector.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from negflax.config import ConfigError
from negflax.model.items import Items
from negflax.tables.table import TableSpec

TABLE = "item_vector"  # also the name of the projection (W, D) among the dense parameters


def vectors_of(items: Items, composed: tuple[str, ...]) -> np.ndarray | None:
    """(V, W) the given vectors, reserved rows left out; None where the model uses none.

    Raises:
      ConfigError: it uses them, and the catalogue has none.
    """
    if "vector" not in composed:
        return None
    if items.vector_VW is None:
        raise ConfigError(
            "config.model.composed has 'vector', but no item has one: give an item table "
            "(config.data.items_path) with a column `item_vector` of lists of numbers, or name "
            "that column, as in config.data.item_columns = ('item_vector=text_embedding',)"
        )
    return items.vector_VW


def spec_of(vector_VW: np.ndarray, table_rows: int) -> TableSpec:
    """The shape of the vectors as a table of as many rows as the item tables have."""
    return TableSpec(table_rows, vector_VW.shape[1], 0.0)


def on_devices(vector_VW: np.ndarray, length: int, sharding: NamedSharding) -> jax.Array:
    """(length, W) the vectors, zero from row V on, each device with its own rows only."""

    def part(index: tuple[slice, ...]) -> np.ndarray:
        first, end, _ = index[0].indices(length)
        rows = vector_VW[first : min(end, len(vector_VW))]
        return np.pad(rows, ((0, end - first - len(rows)), (0, 0)))

    return jax.make_array_from_callback((length, vector_VW.shape[1]), sharding, part)


def lookups(uses: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Use → ids (…, 1) of the vectors that a step reads: one of each item."""
    return {use: ids[..., None] for use, ids in uses.items()}


def project(projection_WD: jax.Array, vectors: jax.Array) -> jax.Array:
    """(…, D) of vectors (…, W)."""
    return vectors.astype(projection_WD.dtype) @ projection_WD


def projected(
    projection_WD: jax.Array, fetched: Any, ids: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """Use → (…, 1, D) of the vectors that were fetched by `ids` (tables/lookup.py), each once."""
    of_UD = project(projection_WD, fetched.rows_UD)
    return {
        use: of_UD[place].reshape(*ids[use].shape, of_UD.shape[1])
        for use, place in fetched.index.items()
    }


def add_to_table(rows_VD: jax.Array, projection_WD: jax.Array, vectors: Any) -> jax.Array:
    """A whole item table with the projections added; what follows D, the bias, stays as it is."""
    return rows_VD.at[:, : projection_WD.shape[1]].add(project(projection_WD, vectors))
