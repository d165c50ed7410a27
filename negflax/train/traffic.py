"""What a step looks up and sends, from the config and the sizes of a catalogue alone.

Shapes: K ids of a device in a step, S candidates, V rows of a table, P shards, D width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from negflax.config import Config
from negflax.data import Batch
from negflax.model import Recommender
from negflax.model.related_items import table_of
from negflax.tables import all_to_all, optimizers
from negflax.tables.stored import stored_rows
from negflax.train.state import kept_in_lines

GIVEN_BYTES = 4  # of a value of a given vector, whatever config.optimizer.table_dtype says


class Lookup(NamedTuple):
    """One table's lookup in a step: K ids of each device, S shared ones, and how they travel."""

    form: str
    ids: int
    shared: int
    table_rows: int
    row_bytes: int
    gradient_bytes: int
    devices: int
    scored: int  # rows on this device that states are multiplied with

    @property
    def both_bytes(self) -> int:
        """Of a row and its gradient."""
        return self.row_bytes + self.gradient_bytes

    def moved_bytes(self, shards: int) -> dict[str, float]:
        """Collective → bytes that a device sends."""
        return all_to_all.moved_bytes(*self[:6], shards)

    def held_bytes(self, shards: int) -> int:
        """Rows that are not candidates', with their gradients."""
        if self.form == "psum":
            rows = min(self.devices * self.ids + self.shared, self.table_rows + 1) - self.shared
            return max(0, rows) * self.both_bytes
        ids = min(self.ids, self.table_rows + 1)
        merged = shards * all_to_all.capacity(ids, shards)
        return ids * self.both_bytes + merged * self.gradient_bytes


def of_full_softmax(
    config: Config, labels: int, mesh: Mesh, shards: int
) -> dict[tuple[str, str], float]:
    """States go to every shard of the output table, their log-sum-exps and gradients come back."""
    states = config.batch.rows * config.batch.length // mesh.size
    itemsize = jnp.dtype(config.model.dtype).itemsize
    vectors = (shards - 1) * states * config.model.embedding * itemsize
    sums = 2 * (shards - 1) * states * max(4, itemsize)
    return {
        ("states", "all-gather vectors"): vectors + (shards - 1) * labels * all_to_all.ID_BYTES,
        ("states", "all-reduce log-sum-exps"): 3 * sums,  # maxima, sums, and the sums' gradients
        ("states", "reduce-scatter gradients"): vectors,
    }


def lookups(
    config: Config, model: Recommender, batch: Batch, mesh: Mesh, lookup: str
) -> dict[str, Lookup]:
    """Table → its lookup; `lookup` is config.mesh.lookup, or what the trainer makes of it."""
    local = jax.tree.map(lambda x: x.size // mesh.size, batch)
    shared = config.loss.num_candidates
    if config.loss.candidates == "in_batch":
        shared += local.label_ids_BTL * mesh.size
    itemsize = jnp.dtype(config.model.dtype).itemsize
    row_itemsize = itemsize if config.optimizer.table_dtype == "model" else 2
    lookups, whole_table = model.lookups(local, shared), config.loss.candidates == "full"
    items = lookups["item"] | lookups[model.output_table]
    if whole_table:
        item_rows = model.tables[model.output_table].num_rows
        items["own candidate"] = item_rows // shards_of(config, mesh)
        del items["candidate"]
    for kind, ids_VC in model.related.items():
        lookups[table_of(kind)] = {use: ids * ids_VC.shape[1] for use, ids in items.items()}
    for name in model.constants:  # every device scores its own
        lookups[name] = {use: ids for use, ids in items.items() if use != "own candidate"}
    found, specs = {}, model.tables | model.constants
    lines = kept_in_lines(config, optimizers.get(config.optimizer, 1), mesh)
    for name, uses in lookups.items():
        spec, learned = specs[name], name in model.tables
        whole = whole_table and name in (model.output_table, *model.constants)
        candidates = 0 if whole else uses.get("candidate", 0)
        sizes = (
            sum(ids for use, ids in uses.items() if use != "candidate"),
            candidates,
            stored_rows(spec, mesh, lines and learned),
            spec.width * (row_itemsize if learned else GIVEN_BYTES),
            spec.width * itemsize,
        )
        shards = shards_of(config, mesh)
        form = all_to_all.form("psum" if whole else lookup, *sizes, shards)
        scored = sizes[2] // shards if whole else candidates
        found[name] = Lookup(form, *sizes[:4], sizes[4] * learned, mesh.size, scored)
    return found


def shards_of(config: Config, mesh: Mesh) -> int:
    """P: over how many devices the rows of a table are split."""
    return math.prod(mesh.shape[axis] for axis in config.mesh.rows)
