"""Daily retraining: a run that starts from another one's parameters, on a changed catalogue.

Rows and their slots are carried over by item id, creators and clusters by the items they share,
hash buckets as they are if there are as many. A new item starts at the mean of its creator's
carried rows, else of its first cluster's, else like any row. Dense parameters are copied; their
optimizer, the schedule, the warm-ups and p̄ begin anew.

Shapes: V rows of a new table, D width, G creators or clusters.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from negflax.config import Config, ConfigError
from negflax.data import Catalogue
from negflax.mesh import split
from negflax.model import Recommender
from negflax.tables import pack, plain, unpack
from negflax.tables.stored import as_stored
from negflax.train.checkpoint import read_config
from negflax.train.loop import open_checkpoints
from negflax.train.restore import CATALOGUE, best_folder
from negflax.train.state import State, abstract_parameters
from negflax.train.step import Trainer

# All other settings of the model decide the parameters' shapes, or what their places mean.
NOT_SHAPING = {"dropout_input", "dropout_output", "precision"}


def warm_start(trainer: Trainer, catalogue: Catalogue, workdir: str | Path) -> tuple[State, dict]:
    """The start state of a run, from the best checkpoint of the run in `workdir`.

    Args:
      trainer: of the new run.
      catalogue: of the new run.
      workdir: folder of the old run; nothing in it is changed.

    Returns:
      (state, counts: `kept`, `new` and `dropped` items, of the new ones those that start at the
      mean of a `creator` or `cluster`, and the reserved rows that are `rows_left`).

    Raises:
      ConfigError, CheckpointError: see `require_same_shapes`.
    """
    folder = best_folder(workdir)
    old_config = require_same_shapes(trainer.config, catalogue, workdir)
    old_config = dataclasses.replace(old_config, mesh=trainer.config.mesh)
    old_catalogue = Catalogue.load(folder / CATALOGUE)
    old = _restore(old_config, old_catalogue, folder, trainer.mesh)

    source_V = np.append(0, old_catalogue.rows(catalogue.item_ids))
    source_V[1:][source_V[1:] == 0] = -1
    sources = {
        "creator": _by_shared_items(
            source_V, catalogue.creator_V[:, None], old_catalogue.creator_V[:, None]
        ),
        "cluster": _by_shared_items(source_V, catalogue.clusters_VC, old_catalogue.clusters_VC),
    }
    item_source_V = np.full(catalogue.table_rows, -1)
    item_source_V[: len(source_V)] = source_V
    if catalogue.bucket_rows and catalogue.bucket_rows == old_catalogue.bucket_rows:
        first = old_catalogue.table_rows - old_catalogue.bucket_rows
        item_source_V[-catalogue.bucket_rows :] = first + np.arange(catalogue.bucket_rows)
    related = catalogue.clusters_VC[:, 0], catalogue.creator_V  # the later one decides
    same_slots = old_config.optimizer.tables == trainer.config.optimizer.tables
    state = plain(trainer.init())
    for name, table in state["tables"].items():
        kind = name.removeprefix("item_")
        by_item = kind not in sources
        carry = jax.jit(
            _carried,
            static_argnums=(4, 5),
            donate_argnums=0,
            out_shardings=split(trainer.mesh, trainer.config.mesh.rows),
        )
        before = old["tables"][name]
        state["tables"][name] = carry(
            table,
            before if same_slots else {"rows": before["rows"], "slots": {}},
            _padded(item_source_V if by_item else sources[kind], len(table["rows"]), -1),
            tuple(_padded(group_V, len(table["rows"]), 0) for group_V in related if by_item),
            tuple(int(group_V.max()) + 1 for group_V in related if by_item),
            trainer.config.model.dtype,
        )
    report = _report(source_V, old_catalogue, related) | {"rows_left": catalogue.reserved_rows}
    state["tables"] = as_stored(state["tables"], trainer.shardings["tables"])
    return state | {"dense": old["dense"]}, report


def require_same_shapes(config: Config, catalogue: Catalogue, workdir: str | Path) -> Config:
    """The config of the run in `workdir`, whose parameters fit into those of `config`.

    Raises:
      ConfigError: the models' shapes differ; the message names the keys.
      CheckpointError: there is no such run.
    """
    folder = best_folder(workdir)
    old, new = read_config(folder), config.model
    names = (field.name for field in dataclasses.fields(new) if field.name not in NOT_SHAPING)
    differ = [f"config.model.{x}" for x in names if getattr(old.model, x) != getattr(new, x)]
    if "vector" in new.composed and not differ:
        old_VW, new_VW = Catalogue.load(folder / CATALOGUE).vector_VW, catalogue.vector_VW
        if old_VW is not None and new_VW is not None and old_VW.shape[1] != new_VW.shape[1]:
            differ.append("the width of the column `item_vector`")
    if old.optimizer.table_dtype != config.optimizer.table_dtype:
        differ.append("config.optimizer.table_dtype")
    if differ:
        raise ConfigError(
            f"--init_from={workdir}: the old run differs in {', '.join(differ)}: "
            "use the same settings"
        )
    return old


def catalogue_of(workdir: str | Path) -> Catalogue:
    """The catalogue of the run in `workdir`, to grow by new items (data/vocabulary_growth.py)."""
    return Catalogue.load(best_folder(workdir) / CATALOGUE)


def _restore(config: Config, catalogue: Catalogue, folder: Path, mesh: Mesh) -> State:
    """Dense parameters and tables of the old run, on the new run's devices."""
    model = Recommender(config.model, catalogue)
    target = abstract_parameters(model, config, mesh, slots=True)
    checkpoints = open_checkpoints(config, folder, model, read_only=True)
    try:
        return checkpoints.restore_first("best", target)[1]
    finally:
        checkpoints.close()


def _carried(new, old, source_V, related, groups, dtype):
    """The new table with what is carried over; rows of source −1 are new."""
    kept_V = source_V >= 0

    def carry(new_x, old_x):
        kept = kept_V.reshape(-1, *[1] * (new_x.ndim - 1))
        return jnp.where(kept, old_x.at[source_V].get(mode="clip"), new_x)

    rows_VD = carry(new["rows"], old["rows"])
    slots = {
        k: carry(v, old["slots"][k]) if k in old["slots"] else v for k, v in new["slots"].items()
    }
    values_VD = jnp.where(kept_V[:, None], unpack(rows_VD, dtype), 0)
    for group_V, size in zip(related, groups, strict=True):
        known_V = kept_V & (group_V > 0)
        sums_GD = jax.ops.segment_sum(jnp.where(known_V[:, None], values_VD, 0), group_V, size)
        count_G = jax.ops.segment_sum(known_V.astype(values_VD.dtype), group_V, size)
        mean_VD = (sums_GD / jnp.maximum(count_G, 1)[:, None])[group_V]
        if rows_VD.dtype == jnp.uint16:
            mean_VD = pack(mean_VD.astype(jnp.bfloat16))
        cold_V = ~kept_V & (count_G[group_V] > 0)
        rows_VD = jnp.where(cold_V[:, None], mean_VD, rows_VD)
    return {"rows": rows_VD, "slots": slots}


def _by_shared_items(source_V, new_VC, old_VC) -> np.ndarray:
    """(G,) old number of each new creator or cluster, −1 where no kept item tells.

    Numbers are a catalogue's own; the items that both catalogues hold say which is which.
    """
    width = min(new_VC.shape[1], old_VC.shape[1])
    kept_V = source_V > 0
    pairs = np.stack(
        [new_VC[kept_V, :width].ravel(), old_VC[source_V[kept_V], :width].ravel()], axis=1
    )
    pairs, count = np.unique(pairs[(pairs > 0).all(1)], axis=0, return_counts=True)
    found_G = np.full(int(new_VC.max()) + 1, -1)
    order = np.argsort(count, kind="stable")  # the most frequent pair is written last
    found_G[pairs[order, 0]] = pairs[order, 1]
    found_G[0] = 0
    return found_G


def _padded(values: np.ndarray, size: int, fill: int) -> np.ndarray:
    return np.pad(values, (0, size - len(values)), constant_values=fill).astype(np.int32)


def _report(source_V: np.ndarray, old: Catalogue, related: tuple) -> dict[str, int]:
    kept_V = source_V > 0
    cluster_V, creator_V = related

    def has_related(group_V):
        return (group_V > 0) & np.isin(group_V, group_V[kept_V])

    new_V = source_V < 0
    by_creator = new_V & has_related(creator_V)
    return {
        "kept": int(kept_V.sum()),
        "new": int(new_V.sum()),
        "dropped": len(old.item_ids) - int(kept_V.sum()),
        "new_at_creator_mean": int(by_creator.sum()),
        "new_at_cluster_mean": int((new_V & has_related(cluster_V) & ~by_creator).sum()),
    }
