"""The training loop.

Everything is a function of (config, step): a killed run that restarts from its newest checkpoint
ends with the same bits. A round is in rounds.py, what happens in each fault in docs/operations.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import logging

from negflax import preemption
from negflax.config import Config, positives_only
from negflax.data import StreamBatches
from negflax.files import write_json
from negflax.model import Recommender
from negflax.processes import from_first, is_first
from negflax.train.checkpoint import (
    CheckpointError,
    Checkpoints,
    abstract_state,
)
from negflax.train.fingerprint import Identity
from negflax.train.goodput import Goodput
from negflax.train.goodput_log import GoodputLog, account, log_summary
from negflax.train.progress import Progress
from negflax.train.rounds import Rounds, Validate
from negflax.train.saving import Saver
from negflax.train.state import State
from negflax.train.step import Trainer
from negflax.train.writers import MetricWriter

DONE = "done.json"  # in the working folder once training has ended
LOWER_IS_BETTER = ("hr_n", "anti_ndcg", "anti_precision", "weighted_loss", "positive_rank")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a training run ended with.

    Attributes:
      state: at the last step.
      step: last step.
      best_step: step of the best validated checkpoint, the last one without validation.
      targets_per_cpu_second: labels trained per CPU second, compilation and validation left out; 0
        when no step was left to do.
      goodput: wall and CPU seconds by phase.
    """

    state: State
    step: int
    best_step: int
    targets_per_cpu_second: float
    goodput: Goodput


def planned_steps(config: Config, batches: StreamBatches) -> int:
    """Steps of the whole schedule, from config.train.steps or .epochs; at least 1."""
    return config.train.steps or max(1, round(config.train.epochs * batches.steps_per_epoch))


def warm_up_steps(config: Config) -> int:
    """Steps before the learning rate and the weight of the negative term are what they will be."""
    if positives_only(config.loss.objective):
        return config.optimizer.warmup_steps
    return max(
        config.optimizer.warmup_steps, config.loss.positives_only_steps + config.loss.ramp_steps
    )


def open_checkpoints(
    config: Config, workdir: Path, model: Recommender | None = None, **options: Any
) -> Checkpoints:
    """The run's checkpoints, with the config's rule for the best one.

    The model says what the tables' rows are, for saving and restoring; looking needs none.
    """
    metric = config.train.metric
    identity = None
    if model:
        num_rows = {name: spec.num_rows for name, spec in model.tables.items()}
        identity = Identity(model.vocabulary, num_rows)
    return Checkpoints(
        workdir,
        metric,
        config.train.keep_latest,
        identity=identity,
        lower_is_better=metric.split("@")[0] in LOWER_IS_BETTER,
        **options,
    )


def train(
    config: Config,
    trainer: Trainer,
    batches: StreamBatches,
    steps: int,
    workdir: Path,
    validate: Validate | None = None,
    init: Callable[[], State] | None = None,
) -> Outcome:
    """Trains to `steps` (or until patience ends), resuming from the newest checkpoint.

    Args:
      config: the run.
      trainer: its jitted step.
      batches: its data.
      steps: last step.
      workdir: where checkpoints and metrics go.
      validate: state → metrics, called every config.train.eval_every steps; None: never.
      init: makes the first state where there is no checkpoint; None: `trainer.init`.

    Raises:
      Preempted: the run was asked to leave; the step that it names is saved.
      NonFiniteError: config.train.max_skipped steps in a row were not finite, or the parameters
        are not; the batch is saved.
      CheckpointError: a checkpoint cannot be restored or written.
    """
    goodput, settings = Goodput(), config.train
    with contextlib.ExitStack() as stack:
        checkpoints = open_checkpoints(config, workdir, trainer.model)
        stack.push(functools.partial(_close, checkpoints))
        with goodput("restore"):
            state = _restored(checkpoints, trainer) or (init or trainer.init)()
            start = int(state["step"])
        if start:
            logging.info("resuming from step %d", start)
        writer = log = None
        if is_first():
            writer = MetricWriter(workdir, start, settings.loggers)
            stack.callback(writer.close)
            log = GoodputLog(workdir, goodput)
            stack.callback(log.close)
            log.write(start)
        rows = trainer.model.num_rows
        progress = Progress(start, steps, settings.log_every, rows, writer, log)
        saver = Saver(workdir, settings, checkpoints, start, goodput, log)
        counted_from = warm_up_steps(config) + 1
        rounds = Rounds(
            config, trainer, batches, workdir, validate, checkpoints, saver, progress, counted_from
        )
        with preemption.unsaved():
            state, step = rounds.run(state, start, steps, goodput)
        progress.flush()
        goodput.enter("finish")
        checkpoints.wait()
        best = checkpoints.best()
        best_step = best[0] if best else step
        from_first(lambda: write_json(Path(workdir) / DONE, {"step": step, "best_step": best_step}))
    if log:
        log_summary(account(workdir))
    rate = progress.targets / goodput.cpu["step"] if goodput.cpu["step"] else 0.0
    return Outcome(state, step, best_step, rate, goodput)


def _restored(checkpoints: Checkpoints, trainer: Trainer) -> State | None:
    if not checkpoints.steps():
        return None
    target = abstract_state(jax.eval_shape(trainer.init), trainer.shardings)
    return checkpoints.restore_first("latest", target)[1]


def _close(checkpoints: Checkpoints, error: type | None, *_: Any) -> None:
    """Waits for what is being written; of two errors the first is raised."""
    try:
        checkpoints.close()
    except CheckpointError as second:
        if error is None:
            raise
        logging.warning("%s", str(second))
