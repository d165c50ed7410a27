"""What a run will need, before it runs: memory of a device, bytes that collectives move, time.

Everything whose size follows from the config and the catalogue is arithmetic on shapes. The rest,
what the step holds while it runs, is the temporary memory of the compiled step; it does not depend
on the catalogue once that exceeds the ids of a step, so a small catalogue is compiled for it, for
the devices of the mesh: virtual CPU devices, or chips that need not be there (chips.py), whose
compilers fuse otherwise. Nothing is allocated.

Shapes: K ids of a device in a step, S candidates, V rows of a table, N states of a device, D width.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from negflax.config import Config, ConfigError
from negflax.data import Batch, Catalogue
from negflax.data.features import REQUEST_VALUES
from negflax.mesh import split
from negflax.model import Recommender
from negflax.tables import all_to_all, padded_rows
from negflax.train import traffic
from negflax.train.array_bytes import array_bytes
from negflax.train.checkpoint import abstract_state
from negflax.train.state import init_state
from negflax.train.step import Trainer
from negflax.train.step_seconds import Machine, step_seconds

GIB = 2**30
SAMPLER_BYTES = 12  # a row, of the alias table that `unigram` and `in_batch` keep on every device
SMALL = 250_000  # rows of a catalogue that is compiled for its temporary memory, at least


class Sizes(NamedTuple):
    """What a model needs to know of a catalogue: rows of its tables, values of each feature."""

    num_rows: int
    feature_sizes: dict[str, int]
    fingerprint: str = ""
    clusters: int = 1  # of an item, at most
    vector_width: int = 0  # of the given vectors of items; 0: they have none

    @classmethod
    def of(cls, catalogue: Catalogue) -> Sizes:
        """Those of a catalogue."""
        vector_VW, clusters = catalogue.vector_VW, catalogue.clusters_VC.shape[1]
        width = 0 if vector_VW is None else vector_VW.shape[1]
        sizes = catalogue.feature_sizes
        return cls(catalogue.table_rows, sizes, clusters=clusters, vector_width=width)

    @property
    def table_rows(self) -> int:
        """All rows are planned as items'."""
        return self.num_rows

    @property
    def creator_V(self) -> np.ndarray:
        """Nobody's, without memory: only the shape counts."""
        return np.broadcast_to(np.int32(0), self.num_rows)

    @property
    def clusters_VC(self) -> np.ndarray:
        """As creator_V."""
        return np.broadcast_to(np.int32(0), (self.num_rows, self.clusters))

    @property
    def vector_VW(self) -> np.ndarray | None:
        """As creator_V."""
        shape = self.num_rows, self.vector_width
        return np.broadcast_to(np.float32(0), shape) if self.vector_width else None


@dataclasses.dataclass(frozen=True)
class Plan:
    """Needs of one device.

    Attributes:
      memory: part → bytes; their sum is the peak.
      checkpoint_bytes: of host memory for each of its devices, while a checkpoint is written.
      collectives: (table, collective) → bytes that a device sends a step.
      seconds: `compute`, `memory`, `collectives` and their sum `step`: no overlap is assumed.
    """

    memory: dict[str, int]
    checkpoint_bytes: int
    collectives: dict[tuple[str, str], float]
    seconds: dict[str, float]

    @property
    def peak(self) -> int:
        """Bytes of a device."""
        return sum(self.memory.values())

    def too_large(self, limit: int) -> dict[str, str]:
        """The parts to change so that a device of `limit` bytes suffices → the keys that do it.

        The largest parts, as many of them as exceed the limit together with all smaller ones.
        """
        excess, named = self.peak - limit, {}
        for part, size in sorted(self.memory.items(), key=lambda item: -item[1]):
            if excess <= 0:
                break
            named[part] = KEYS[part]
            excess -= size
        return named


# What to change where a part is too large, the largest effect first.
KEYS = {
    "rows": "more --devices, a smaller config.model.embedding, or config.model.tied = True",
    "slots": "config.optimizer.tables = 'rowwise_adagrad' (one value a row) or more --devices",
    "dense": "a smaller config.model.hidden",
    "batch": "a smaller config.batch.rows",
    "related": "config.model.composed = (), which needs no creators and clusters of all items",
    "item vectors": "more --devices, or config.model.composed without 'vector'",
    "sampler": "config.loss.candidates = 'uniform', which needs no table of frequencies",
    "candidates": "a smaller config.loss.num_candidates",
    "looked-up rows": "a smaller config.batch.rows, or config.mesh.lookup = 'all_to_all'",
    "activations": "a smaller config.batch.rows, .length or config.loss.block_elements",
}


def make_plan(config: Config, sizes: Sizes, mesh: Mesh, machine: Machine) -> Plan:
    """The needs of `config` with a catalogue of these sizes on a mesh of (virtual) devices.

    Raises:
      ConfigError: the batch does not divide among the devices.
    """
    if config.batch.rows % mesh.size:
        raise ConfigError(
            f"config.batch.rows = {config.batch.rows} does not divide among {mesh.size} devices"
        )
    batch, model = abstract_batch(config, mesh), Recommender(config.model, sizes)
    trainer = _small_trainer(config, sizes, batch, mesh)
    lookups = traffic.lookups(config, model, batch, mesh, trainer.lookup_mesh.lookup)
    state = jax.eval_shape(
        lambda: init_state(config, model, trainer.dense_optimizer, trainer.row_optimizer, mesh)
    )
    shards = traffic.shards_of(config, mesh)
    tiled = mesh.devices.flat[0].platform == "tpu"
    rows = sum(array_bytes(table["rows"], tiled) for table in state["tables"].values()) // shards
    tables = array_bytes(state["tables"], tiled) // shards
    dense = array_bytes(state) - array_bytes(state["tables"])
    candidates = sum(one.scored * one.both_bytes for one in lookups.values())
    held = sum(one.held_bytes(shards) for one in lookups.values())
    temporary = _temporary(trainer, batch)
    candidates = min(candidates, temporary)  # a TPU keeps what is small on the chip itself
    held = min(held, temporary - candidates)
    memory = {
        "rows": rows,
        "slots": tables - rows,
        "dense": dense,
        "batch": array_bytes(batch) // mesh.size,
        "related": sum(
            math.prod(ids.shape) * all_to_all.ID_BYTES for ids in model.related.values()
        ),
        "item vectors": sum(
            padded_rows(spec.num_rows, mesh.size) // shards * spec.width * traffic.GIVEN_BYTES
            for spec in model.constants.values()
        ),
        "sampler": 0 if trainer.unigram is None else SAMPLER_BYTES * sizes.num_rows,
        "candidates": candidates,
        "looked-up rows": held,
        "activations": temporary - candidates - held,
    }
    reduced = 2 * (mesh.size - 1) / mesh.size * array_bytes(state["dense"])
    collectives = {("dense", "all-reduce gradients"): reduced}
    for name, one in lookups.items():
        collectives |= {(name, what): sent for what, sent in one.moved_bytes(shards).items()}
    if config.loss.candidates == "full" and shards > 1:
        collectives |= traffic.of_full_softmax(
            config, batch.label_ids_BTL.size // mesh.size, mesh, shards
        )
    seconds = step_seconds(config, memory, collectives, lookups, mesh.size, machine)
    return Plan(memory, tables + dense, collectives, seconds)


def abstract_batch(config: Config, mesh: Mesh) -> Batch:
    """Shapes and dtypes of a training batch."""
    labels = 1 if config.labels.horizon == 1 else 2
    shape = {"BT": (config.batch.rows, config.batch.length)}
    shape |= {"BTL": (*shape["BT"], labels), "BTR": (*shape["BT"], len(REQUEST_VALUES))}

    def array(name: str) -> jax.ShapeDtypeStruct:
        dtype = {"reset": jnp.bool_, "weight": jnp.float32}
        kind = next((dtype[word] for word in dtype if word in name), jnp.int32)
        return jax.ShapeDtypeStruct(shape[name.split("_")[-1]], kind, sharding=split(mesh))

    found = Batch(*map(array, Batch._fields))
    return found if config.model.request else found._replace(request_BTR=None)


def _small_trainer(config: Config, sizes: Sizes, batch: Batch, mesh: Mesh) -> Trainer:
    """A trainer whose step holds as much besides its tables as with the whole catalogue."""
    lookups = traffic.lookups(config, Recommender(config.model, sizes), batch, mesh, "psum")
    # Temporary arrays of `distinct` grow with its table up to 16 places an id.
    asked = max(3 * one.ids + one.shared for one in lookups.values())
    enough = max(SMALL, 16 * mesh.size * asked)
    if config.loss.candidates == "full":
        enough = sizes.num_rows
    features = {name: min(size, enough) for name, size in sizes.feature_sizes.items()}
    small = sizes._replace(num_rows=min(sizes.num_rows, enough), feature_sizes=features)
    model = Recommender(config.model, small)
    trainer = Trainer(config, model, np.ones(SMALL), 1, mesh)  # a sampler of any size will do
    trainer.constants = {
        name: jax.ShapeDtypeStruct(
            (padded_rows(spec.num_rows, mesh.size), spec.width),
            jnp.float32,
            sharding=split(mesh, config.mesh.rows),
        )
        for name, spec in model.constants.items()
    }
    return trainer


def _temporary(trainer: Trainer, batch: Batch) -> int:
    state = abstract_state(jax.eval_shape(trainer.init), trainer.shardings)
    return trainer.lower(state, batch).compile().memory_analysis().temp_size_in_bytes
