"""A trained model from its working folder: any checkpoint, parameters alone, onto any mesh."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from negflax import tables
from negflax.config import Config, MeshConfig
from negflax.data import Catalogue, DataError
from negflax.mesh import copied
from negflax.model import Recommender
from negflax.train.checkpoint import CheckpointError, Checkpoints, abstract_state, read_config
from negflax.train.loop import DONE, open_checkpoints
from negflax.train.state import State, abstract_parameters
from negflax.train.weights import Sums, init_sums

CATALOGUE = "catalogue.npz"
REFIT = "refit"  # folder of the run that was trained anew, within the run that chose its length


@dataclasses.dataclass(frozen=True)
class Trained:
    """What serves and evaluates.

    Attributes:
      config: of the run.
      catalogue: its vocabulary.
      model: the functions.
      state: `dense` and `tables` (rows in model.dtype, without optimizer slots).
      step: of the checkpoint.
      mesh: where the state lives.
      calibration: corrects its scores (negflax/calibration/); None: scores are the model's own.
    """

    config: Config
    catalogue: Catalogue
    model: Recommender
    state: State
    step: int
    mesh: Mesh
    calibration: Any = None


def save_catalogue(workdir: str | Path, catalogue: Catalogue) -> None:
    """Stores a run's vocabulary, or checks it against the one that is there.

    A damaged one is replaced: whether the checkpoints' rows are its items, their fingerprints tell.

    Raises:
      CheckpointError: the folder holds another one: the tables' rows are its items.
    """
    path = Path(workdir) / CATALOGUE
    old = None
    if path.exists():
        try:
            old = Catalogue.load(path)
        except DataError as error:
            logging.warning("%s; it is built again from the data", str(error).split(": delete")[0])
    if old is not None and old.fingerprint != catalogue.fingerprint:
        fresh = len(np.setdiff1d(catalogue.item_ids, old.item_ids))
        gone = len(np.setdiff1d(old.item_ids, catalogue.item_ids))
        raise CheckpointError(
            f"{workdir} was trained on another vocabulary: the data has {fresh} items that it "
            f"lacks and lacks {gone} of its items. Use the data that it was trained on, or "
            "another --workdir"
        )
    catalogue.save(path)


def best_folder(workdir: str | Path) -> Path:
    """Where the best model of a run is: that of its refit, if it was refitted."""
    refitted = Path(workdir) / REFIT
    return refitted if (refitted / DONE).exists() else Path(workdir)


def checkpoint_folder(workdir: str | Path, which: str) -> Path:
    """Where a checkpoint of a run is: `best` in `best_folder`, all others in the run's own."""
    return best_folder(workdir) if which == "best" else Path(workdir)


def load_trained(
    workdir: str | Path, which: str, mesh: Mesh, model: Recommender | None = None
) -> Trained:
    """Restores a checkpoint's parameters.

    Args:
      workdir: folder of the run.
      which: `latest`, `best` or a step. Where the run was refitted on training + validation
        events, `best` is the refitted model in <workdir>/refit.
      mesh: of any size; the run may have used another.
      model: of another checkpoint of the run: what was compiled for it serves again.

    Raises:
      CheckpointError: see Checkpoints.restore_first.
    """
    with _opened(workdir, which, model) as (config, catalogue, model, checkpoints):
        step, state = checkpoints.restore_first(which, _parameters(config, model, mesh))
        _unpack(state, config)
        return Trained(config, catalogue, model, state, step, mesh)


def load_tables(
    workdir: str | Path, which: str, mesh: Mesh
) -> tuple[dict[str, jax.Array], Catalogue, int]:
    """Restores the item tables alone: for an index, or to start another model from.

    Args:
      workdir: folder of the run.
      which: as in `load_trained`.
      mesh: of any size.

    Returns:
      (table → rows (V padded to the mesh's devices, width), vocabulary, step).

    Raises:
      CheckpointError: see Checkpoints.restore_first.
    """
    with _opened(workdir, which) as (config, catalogue, model, checkpoints):
        target = {"tables": _parameters(config, model, mesh)["tables"]}
        step, state = checkpoints.restore_first(which, target)
        _unpack(state, config)
        return {name: table["rows"] for name, table in state["tables"].items()}, catalogue, step


def load_weight_sums(workdir: str | Path, which: str, mesh: Mesh) -> dict[str, Sums]:
    """Restores the sums from which the weight of the negative term is computed (weights.py).

    Arguments and errors are those of `load_trained`.
    """
    with _opened(workdir, which) as (config, _, _, checkpoints):
        sums = jax.eval_shape(lambda: init_sums(config.model.dtype))
        target = {"weight_sums": abstract_state(sums, jax.tree.map(lambda _: copied(mesh), sums))}
        return checkpoints.restore_first(which, target)[1]["weight_sums"]


@contextlib.contextmanager
def _opened(
    workdir: str | Path, which: str, model: Recommender | None = None
) -> Iterator[tuple[Config, Catalogue, Recommender, Checkpoints]]:
    """What a checkpoint of a run is restored with; the checkpoints are closed in the end."""
    folder = checkpoint_folder(workdir, which)
    config, catalogue = read_config(folder), Catalogue.load(folder / CATALOGUE)
    model = model or Recommender(config.model, catalogue)
    checkpoints = open_checkpoints(config, folder, model, read_only=True)
    try:
        yield config, catalogue, model, checkpoints
    finally:
        checkpoints.close()


def scored_tables(model: Recommender, state: State) -> dict[str, Any]:
    """The tables of a state as scores need them: plain, composed rows, no slots."""
    rows = {
        name: tables.unpack(tables.plain(table["rows"]), model.config.dtype)
        for name, table in state["tables"].items()
    }
    return {name: {"rows": x} for name, x in model.composed(rows, state["dense"]).items()}


def _parameters(config: Config, model: Recommender, mesh: Mesh) -> State:
    """The restore target: `dense`, and the tables' rows, over all devices, without slots."""
    return abstract_parameters(model, dataclasses.replace(config, mesh=MeshConfig()), mesh)


def _unpack(state: State, config: Config) -> None:
    """Turns the rows of a checkpoint into values of model.dtype."""
    for table in state["tables"].values():
        table["rows"] = tables.unpack(table["rows"], config.model.dtype)
