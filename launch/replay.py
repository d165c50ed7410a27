"""Repeats one step of training with the batch that a run saved when it stopped.

  python -m launch.replay --workdir=runs/mine --batch=runs/mine/skipped/batch-1234.npz

The step starts from the newest checkpoint, with the random numbers of that step. It is exactly the
step of the run if the run saved its state when it stopped, which it does unless the parameters are
not finite. Nothing is written into the run's folder. The program lists the rows of the batch that
give a step that is not finite even without the other rows.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from negflax import mesh as meshes
from negflax.config import ConfigError, MeshConfig
from negflax.data import Batch, Catalogue
from negflax.evaluate import format_table
from negflax.files import plain, write_json
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.train.checkpoint import abstract_state
from negflax.train.failed_batch import load_batch
from negflax.train.loop import open_checkpoints
from negflax.train.restore import CATALOGUE
from negflax.train.run_config import read_config
from negflax.train.state import State
from negflax.train.step import Trainer

from . import flags as shared

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
BATCH = flags.DEFINE_string("batch", None, "Batch that the run has saved, skipped/batch-STEP.npz.")
CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "latest", "Which checkpoint: latest, best or a step number."
)


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    shared.start(WORKDIR.value)
    try:
        step, batch = load_batch(BATCH.value)
    except ValueError as error:
        raise ConfigError(f"--batch: {error}") from error
    trainer = _trainer(Path(WORKDIR.value), step)
    saved, state = _restore(trainer, Path(WORKDIR.value))
    state = state | {"step": jax.device_put(np.int32(step - 1), state["step"].sharding)}
    figures = _train(trainer, state, batch)
    bad = _bad_rows(trainer, state, batch) if figures["skipped"] else []
    weights = {
        f"largest {name}": float(getattr(batch, f"{field}_weight_BTL").max())
        for name, field in (("r", "positive"), ("w", "negative"))
    }
    print(f"step {step}, from the parameters of step {saved}")
    print(format_table([{"figure": k, "value": v} for k, v in (figures | weights).items()]))
    if bad:
        print(f"rows of the batch that are not finite on their own: {', '.join(map(str, bad))}")
    elif figures["skipped"]:
        print("each row on its own is finite: check the parameters")
    else:
        print("the step is finite here: the parameters differed then, or the machine failed")
    if shared.JSON.value:
        found = figures | weights | {"step": step, "parameters_of": saved, "rows": bad}
        write_json(shared.JSON.value, plain(found))


def _trainer(workdir: Path, step: int) -> Trainer:
    config = read_config(workdir)
    config = dataclasses.replace(config, mesh=dataclasses.replace(config.mesh, data=0))
    catalogue = Catalogue.load(workdir / CATALOGUE)
    mesh = make_mesh(config.mesh)
    if config.batch.rows % mesh.size:  # not divisible by the devices of this machine: use one
        config = dataclasses.replace(config, mesh=MeshConfig())
        mesh = make_mesh(config.mesh, jax.devices()[:1])
    # The schedule's length depends on the data; it affects only the size of the update.
    steps = max(step, config.train.steps)
    model = Recommender(config.model, catalogue)
    return Trainer(config, model, catalogue.train_count_V, steps, mesh)


def _restore(trainer: Trainer, workdir: Path) -> tuple[int, State]:
    target = abstract_state(jax.eval_shape(trainer.init), trainer.shardings)
    checkpoints = open_checkpoints(trainer.config, workdir, trainer.model, read_only=True)
    try:
        return checkpoints.restore_first(CHECKPOINT.value, target)
    finally:
        checkpoints.close()


def _train(trainer: Trainer, state: State, batch: Batch) -> dict[str, Any]:
    """Metrics of the step; the state, which the step takes, is copied."""
    copied = jax.tree.map(lambda x: x.copy(), state)
    metrics = trainer.step(copied, meshes.from_hosts(trainer.mesh, batch))[1]
    return {name: value.item() for name, value in jax.device_get(metrics).items()}


def _bad_rows(trainer: Trainer, state: State, batch: Batch) -> list[int]:
    bad = []
    for row in range(len(batch.label_ids_BTL)):
        label_ids_BTL = np.zeros_like(batch.label_ids_BTL)
        label_ids_BTL[row] = batch.label_ids_BTL[row]
        if _train(trainer, state, batch._replace(label_ids_BTL=label_ids_BTL))["skipped"]:
            bad.append(row)
    return bad


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir", "batch"])
    shared.run(main)
