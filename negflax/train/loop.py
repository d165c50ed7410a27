"""The training loop.

The order of a round is fixed: leave if asked to → dispatch step k → read the metrics of step k − 1,
so that the device never waits for the host → every `eval_every` steps validate and save. Everything
is a function of (config, step): a killed run that restarts from its newest checkpoint ends with the
same bits. What happens in each fault: docs/operations.md.
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

from negflax import mesh as meshes
from negflax import preemption
from negflax.config import Config, positives_only
from negflax.data import Batch, StreamBatches, prefetch
from negflax.files import write_json
from negflax.model import Recommender
from negflax.processes import from_first, is_first
from negflax.train.checkpoint import (
    CheckpointError,
    Checkpoints,
    NonFiniteError,
    abstract_state,
)
from negflax.train.failed_batch import save_batch
from negflax.train.fingerprint import Identity
from negflax.train.finite import non_finite
from negflax.train.goodput import Goodput
from negflax.train.goodput_log import GoodputLog, account, log_summary
from negflax.train.progress import Progress
from negflax.train.saving import Saver
from negflax.train.state import State
from negflax.train.step import Trainer
from negflax.train.writers import MetricWriter

Validate = Callable[[State], dict[str, float]]
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
        loop = _Loop(config, trainer, batches, workdir, validate, checkpoints, saver, progress)
        with preemption.unsaved():
            state, step = loop.run(state, start, steps, goodput)
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


@dataclasses.dataclass
class _Loop:
    config: Config
    trainer: Trainer
    batches: StreamBatches
    workdir: Path
    validate: Validate | None
    checkpoints: Checkpoints
    saver: Saver
    progress: Progress

    def run(self, state: State, start: int, stop: int, goodput: Goodput) -> tuple[State, int]:
        """(state, step) at the end; trains the steps after `start`, up to `stop`."""
        step, pending = start, None
        self._catch_up(step, state, goodput)
        if self._out_of_patience(step):
            return state, step
        depth = self.config.batch.prefetch
        stream = prefetch(self.batches, start, stop, depth, self._put)

        def busy() -> bool:
            return step <= start + 1 or (pending is not None and not pending["loss"].is_ready())

        goodput.enter("compile")
        with contextlib.closing(stream):
            for batch in goodput.fed(stream, busy):
                if preemption.requested(step):
                    if pending is not None:
                        self._read(step, pending, state)
                    self.saver.leave(step, state)
                state, metrics = self.trainer.step(state, batch)
                if pending is not None:  # the host is never more than a step ahead
                    self._read(step, pending, state)
                step, pending = step + 1, metrics
                if step == start + 1:
                    jax.block_until_ready(state)
                    goodput.enter("step")
                if step == stop or self._validates(step) or self.saver.due(step):
                    self._read(step, pending, state)
                    pending = None
                    if self._save(step, state, step == stop, goodput):
                        break
        return state, step

    def _put(self, batch: Batch) -> Batch:
        """This host's rows of the batch, to its devices."""
        return meshes.from_hosts(self.trainer.mesh, batch)

    def _read(self, step: int, metrics: dict[str, jax.Array], state: State) -> None:
        """Waits for the metrics of a step; `state` may be a step ahead."""
        jax.block_until_ready(metrics)
        self.progress.read(step, metrics)
        if self.progress.skipped < self.config.train.max_skipped:
            return
        bad, reached = non_finite(state), int(state["step"])
        if not bad and reached not in self.checkpoints.steps():  # for the step to be trained alone
            self.saver.save(reached, state)
        self._stop(
            step,
            f"the last {self.progress.skipped} steps were skipped, as their loss or gradient is "
            f"not finite; the parameters {'are not' if bad else 'are'} finite",
        )

    def _stop(self, step: int, why: str) -> None:
        path = save_batch(self.workdir, self.batches, step)
        raise NonFiniteError(
            f"training stops at step {step}: {why}. To examine the step: "
            f"python -m launch.replay --workdir={self.workdir} --batch={path}. Look for outliers "
            "in its weights, or lower config.optimizer.learning_rate or .table_learning_rate and "
            "start again with --accept_config_change"
        )

    def _save(self, step: int, state: State, last: bool, goodput: Goodput) -> bool:
        """Validates, if it is time to, and saves; True where patience ends training."""
        jax.block_until_ready(state)  # so that its time counts as a step's
        found, validating = None, self._validates(step) or (last and self._validates(0))
        if bad := non_finite(state):
            self._stop(step, f"{', '.join(bad)} have values that are not finite")
        if validating:
            try:
                with goodput("validate"):
                    found = self.validate(state)
            except preemption.Preempted:
                self.saver.leave(step, state)
            self.progress.validated(step, found)
        self.saver.save(step, state, found if self._counts(step) else None)
        return validating and self._out_of_patience(step)

    def _catch_up(self, step: int, state: State, goodput: Goodput) -> None:
        """The validation that a run which had to leave did not come to."""
        saved = step in self.checkpoints.steps()
        if not (saved and self._validates(step) and self._counts(step)):
            return
        if self.checkpoints.metrics(step) is None:
            with goodput("validate"):
                found = self.validate(state)
            self.progress.validated(step, found)
            self.checkpoints.validated(step, found)

    def _validates(self, step: int) -> bool:
        every = self.config.train.eval_every
        return self.validate is not None and every > 0 and step % every == 0

    def _counts(self, step: int) -> bool:
        """What a warm-up validates is not yet the objective's: it can't be the best."""
        return step > warm_up_steps(self.config)

    def _out_of_patience(self, step: int) -> bool:
        """True after `patience` validations without a new best; those of warm-ups do not count."""
        settings = self.config.train
        if not settings.patience or (best := self.checkpoints.best()) is None:
            return False
        stop = step - best[0] >= settings.patience * settings.eval_every
        if stop:
            logging.info("%s has not improved since step %d: stopping", settings.metric, best[0])
        return stop
