"""The rounds of the training loop (loop.py): their order is fixed, and the same in every process.

Leave if asked to → dispatch step k → read the metrics of step k − 1, so that the device never waits
for the host → every `eval_every` steps validate and save.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
from absl import logging

from negflax import mesh as meshes
from negflax import preemption
from negflax.config import Config
from negflax.data import Batch, StreamBatches, prefetch
from negflax.train.checkpoint import Checkpoints, NonFiniteError
from negflax.train.failed_batch import save_batch
from negflax.train.finite import non_finite
from negflax.train.goodput import Goodput
from negflax.train.progress import Progress
from negflax.train.saving import Saver
from negflax.train.state import State
from negflax.train.step import Trainer

Validate = Callable[[State], dict[str, float]]


@dataclasses.dataclass
class Rounds:
    """The rounds of `train`, with what they work on.

    Attributes:
      counted_from: first step whose validation can be the best: what a warm-up gives is not yet
        the objective's.
    """

    config: Config
    trainer: Trainer
    batches: StreamBatches
    workdir: Path
    validate: Validate | None
    checkpoints: Checkpoints
    saver: Saver
    progress: Progress
    counted_from: int

    def run(self, state: State, start: int, stop: int, goodput: Goodput) -> tuple[State, int]:
        """(state, step) at the end; trains the steps after `start`, up to `stop`."""
        step, pending = start, None
        self._catch_up(step, state, step == stop, goodput)
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
        self.saver.save(step, state, found if step >= self.counted_from else None)
        return validating and self._out_of_patience(step)

    def _catch_up(self, step: int, state: State, last: bool, goodput: Goodput) -> None:
        """The validation that a run which had to leave did not come to."""
        counts = step >= self.counted_from and step in self.checkpoints.steps()
        due = self._validates(step) or (last and self._validates(0))
        if counts and due and self.checkpoints.metrics(step) is None:
            with goodput("validate"):
                found = self.validate(state)
            self.progress.validated(step, found)
            self.checkpoints.validated(step, found)

    def _validates(self, step: int) -> bool:
        every = self.config.train.eval_every
        return self.validate is not None and every > 0 and step % every == 0

    def _out_of_patience(self, step: int) -> bool:
        """True after `patience` validations without a new best; those of warm-ups do not count."""
        settings = self.config.train
        if not settings.patience or (best := self.checkpoints.best()) is None:
            return False
        stop = step - best[0] >= settings.patience * settings.eval_every
        if stop:
            logging.info("%s has not improved since step %d: stopping", settings.metric, best[0])
        return stop
