"""The state that a run begins with.

Of these, the first that there is:

1. the newest checkpoint in its own folder that can be restored (loop.py): it goes on
2. --resume_from: the same in another run's folder, of the same config and vocabulary: it goes on
   from there with parameters, optimizer, step and data order, and leaves that folder as it is
3. --init_from: another run's best parameters, on a catalogue that may differ, from step 0
   (warm_start.py)
4. scratch
"""

from __future__ import annotations

from pathlib import Path

import jax
from absl import logging

from negflax.data import Catalogue
from negflax.files import write_json
from negflax.processes import from_first
from negflax.train.checkpoint import abstract_state
from negflax.train.loop import open_checkpoints
from negflax.train.run_config import CheckpointError, differences
from negflax.train.state import State
from negflax.train.step import Trainer
from negflax.train.warm_start import warm_start

INIT_REPORT = "init_report.json"


def first_state(
    trainer: Trainer, catalogue: Catalogue, workdir: Path, resume_from: str, init_from: str
) -> State:
    """The state from `resume_from`, else from `init_from`, else a new one; an empty path is none.

    Raises:
      ConfigError: the run of `init_from` has a model of another shape.
      CheckpointError: a folder holds no run, or `resume_from` one of another config or vocabulary.
    """
    if resume_from:
        return _resumed(trainer, resume_from)
    if init_from:
        return _warm_started(trainer, catalogue, workdir, init_from)
    return trainer.init()


def _resumed(trainer: Trainer, folder: str) -> State:
    if changes := differences(folder, trainer.config):
        raise CheckpointError(
            f"--resume_from={folder} is a run with another config ({', '.join(changes)}): use its "
            "config, or start from its parameters only, with --init_from"
        )
    target = abstract_state(jax.eval_shape(trainer.init), trainer.shardings)
    checkpoints = open_checkpoints(trainer.config, Path(folder), trainer.model, read_only=True)
    try:
        step, state = checkpoints.restore_first("latest", target)
    finally:
        checkpoints.close()
    logging.info("continuing from %s, step %d", folder, step)
    return state


def _warm_started(trainer: Trainer, catalogue: Catalogue, workdir: Path, init_from: str) -> State:
    state, report = warm_start(trainer, catalogue, init_from)
    from_first(lambda: write_json(workdir / INIT_REPORT, report))
    logging.info(
        "starting from %s: %d items kept, %d new (%d with the mean of their creator, %d with that "
        "of their cluster), %d dropped, %d reserved rows left",
        init_from,
        report["kept"],
        report["new"],
        report["new_at_creator_mean"],
        report["new_at_cluster_mean"],
        report["dropped"],
        report["rows_left"],
    )
    return state
