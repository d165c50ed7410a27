"""Composed item vectors: an item's row + its creator's row + the mean of its clusters' rows.

So feedback on one item reaches its related items (docs/method.md §4). The rows of creators and
clusters are tables of their own, begin at 0 and serve both sides, input and output. A step composes
the vectors that it needs; scoring composes the whole table once, and then knows nothing of related
items.

Shapes: V items, C creators (1) or clusters of an item, D width.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from negflax.model.items import Items

NOBODY = -1  # an id outside every table: it reads zeros and changes nothing
SHARED = "candidate"  # the use whose ids are the same on every device

RelatedItems = dict[str, Any]  # "creator", "cluster" → (V, C) int32 ids, NOBODY where unknown


def related_of(items: Items, kinds: tuple[str, ...]) -> RelatedItems:
    """The creator and clusters of every row; NOBODY for reserved rows."""
    ids = {"creator": items.creator_V[:, None], "cluster": items.clusters_VC}
    found = {
        kind: np.where(ids_VC > 0, ids_VC, NOBODY).astype(np.int32)
        for kind, ids_VC in ids.items()
        if kind in kinds
    }
    behind = ((0, items.table_rows - items.num_rows), (0, 0))
    return {kind: np.pad(x, behind, constant_values=NOBODY) for kind, x in found.items()}


def table_of(kind: str) -> str:
    """Name of the table of that kind's rows."""
    return f"item_{kind}"


def lookups(
    uses: dict[str, jax.Array], related: RelatedItems, *, shared: bool
) -> dict[str, dict[str, Any]]:
    """What a step reads besides the items' own rows: table → use → ids (…, C).

    Args:
      uses: use → item ids.
      related: see `related_of`.
      shared: the candidates are the same on every device; else each device has its own.
    """

    def name(use: str) -> str:
        return use if shared or use != SHARED else f"own {use}"

    return {
        table_of(kind): {
            name(use): ids_VC.at[ids].get(
                mode="fill", fill_value=NOBODY, wrap_negative_indices=False
            )
            for use, ids in uses.items()
        }
        for kind, ids_VC in related.items()
    }


def add(
    vectors: dict[str, jax.Array], found: dict[str, dict[str, Any]], ids: dict[str, dict[str, Any]]
) -> dict[str, jax.Array]:
    """The items' vectors, with those of their related items added.

    Args:
      vectors: use → rows (…, ≥ D); what follows D, the bias, stays as it is.
      found: table → use → the related items' rows (…, C, D).
      ids: as `lookups` gave them.
    """
    for table, uses in found.items():
        for use, rows in uses.items():
            item = use.removeprefix("own ")
            vectors = vectors | {item: plus_mean(vectors[item], rows, ids[table][use])}
    return vectors


def plus_mean(vectors: jax.Array, rows: jax.Array, ids: jax.Array) -> jax.Array:
    """(…, ≥ D) vectors + mean over C of the rows (…, C, D) whose id is one; + 0 if none is."""
    known = ids >= 0
    total = jnp.sum(jnp.where(known[..., None], rows, 0), axis=-2)
    mean = total / jnp.maximum(jnp.sum(known, axis=-1), 1)[..., None]
    return vectors.at[..., : mean.shape[-1]].add(mean)


def compose_rows(
    rows_VD: jax.Array, tables: dict[str, jax.Array], related: RelatedItems
) -> jax.Array:
    """A whole item table with the related items' rows added, for scoring; V may be padded."""
    for kind, ids_VC in related.items():
        ids_VC = jnp.pad(ids_VC, ((0, len(rows_VD) - len(ids_VC)), (0, 0)), constant_values=NOBODY)
        found_VCD = tables[table_of(kind)].at[ids_VC].get(mode="clip")
        rows_VD = plus_mean(rows_VD, found_VCD, ids_VC)
    return rows_VD
