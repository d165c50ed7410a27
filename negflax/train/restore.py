"""A trained model from its working folder: any checkpoint, parameters alone, onto any mesh."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
from jax.sharding import Mesh

from negflax.config import Config
from negflax.data import Catalogue
from negflax.model import Recommender
from negflax.train.checkpoint import abstract_state, read_config
from negflax.train.loop import DONE, open_checkpoints
from negflax.train.state import State
from negflax.train.step import Trainer

CATALOGUE = "catalogue.npz"
REFIT = "refit"  # folder of the run that was trained anew, within the run that chose its length


@dataclasses.dataclass(frozen=True)
class Trained:
    """What serves and evaluates.

    Attributes:
      config: of the run.
      catalogue: its vocabulary.
      model: the functions.
      state: `dense` and `tables` (rows without optimizer slots).
      step: of the checkpoint.
      mesh: where the state lives.
    """

    config: Config
    catalogue: Catalogue
    model: Recommender
    state: State
    step: int
    mesh: Mesh


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
      CheckpointError: see Checkpoints.choose and .restore.
    """
    workdir = Path(workdir)
    if which == "best" and (workdir / REFIT / DONE).exists():
        workdir = workdir / REFIT
    config = read_config(workdir)
    catalogue = Catalogue.load(workdir / CATALOGUE)
    model = model or Recommender(config.model, catalogue)
    target = _parameters(config, model, catalogue, mesh)
    checkpoints = open_checkpoints(config, workdir, read_only=True)
    try:
        step = checkpoints.choose(which)
        return Trained(config, catalogue, model, checkpoints.restore(step, target), step, mesh)
    finally:
        checkpoints.close()


def load_tables(
    workdir: str | Path, which: str, mesh: Mesh
) -> tuple[dict[str, jax.Array], Catalogue, int]:
    """Restores the item tables alone: for an index, or to start another model from.

    Args:
      workdir: folder of the run.
      which: `latest`, `best` or a step.
      mesh: of any size.

    Returns:
      (table → rows (V padded to the mesh's devices, width), vocabulary, step).

    Raises:
      CheckpointError: see Checkpoints.choose and .restore.
    """
    config = read_config(Path(workdir))
    catalogue = Catalogue.load(Path(workdir) / CATALOGUE)
    target = _parameters(config, Recommender(config.model, catalogue), catalogue, mesh)
    checkpoints = open_checkpoints(config, Path(workdir), read_only=True)
    try:
        step = checkpoints.choose(which)
        tables = checkpoints.restore(step, {"tables": target["tables"]})["tables"]
        return {name: table["rows"] for name, table in tables.items()}, catalogue, step
    finally:
        checkpoints.close()


def _parameters(config: Config, model: Recommender, catalogue: Catalogue, mesh: Mesh) -> State:
    """The restore target: `dense`, and the tables' rows without optimizer slots."""
    trainer = Trainer(config, model, catalogue.train_count_V, steps=1, mesh=mesh)
    state = abstract_state(jax.eval_shape(trainer.init), trainer.shardings)
    return {
        "dense": state["dense"],
        "tables": {name: {"rows": table["rows"]} for name, table in state["tables"].items()},
    }
