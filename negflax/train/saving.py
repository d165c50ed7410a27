"""When a run saves: by steps or minutes, after a validation, at the end, when asked to leave."""

from __future__ import annotations

import time
from pathlib import Path

import jax

from negflax.config import TrainConfig
from negflax.preemption import Preempted
from negflax.processes import from_first
from negflax.train import workdir_lock
from negflax.train.checkpoint import Checkpoints
from negflax.train.goodput import Goodput
from negflax.train.goodput_log import GoodputLog
from negflax.train.state import State

clock = time.monotonic  # the wall clock jumps


class Saver:
    """Saves at the right steps, the same ones on all processes."""

    def __init__(
        self,
        workdir: Path,
        settings: TrainConfig,
        checkpoints: Checkpoints,
        start: int,
        goodput: Goodput,
        log: GoodputLog | None,
    ):
        """The run's folder, settings, checkpoints, first step, and where its time is counted."""
        self._workdir, self._settings, self._checkpoints = workdir, settings, checkpoints
        self._goodput, self._log = goodput, log
        self._saved, self._since = start if start in checkpoints.steps() else -1, clock()

    def due(self, step: int) -> bool:
        """Whether to save after this step. The minutes are the first process's to count."""
        every, minutes = self._settings.checkpoint_every, self._settings.checkpoint_minutes
        if every and step % every == 0:
            return True
        if not minutes or (jax.process_count() > 1 and step % self._settings.log_every):
            return False
        return from_first(lambda: clock() - self._since >= 60 * minutes)

    def save(self, step: int, state: State, metrics: dict[str, float] | None = None) -> None:
        """See Checkpoints.save; no write goes into a folder that is another trainer's by now."""
        with self._goodput("checkpoint"):
            from_first(lambda: workdir_lock.check(self._workdir))
            self._checkpoints.save(step, state, metrics)
        self._saved, self._since = step, clock()
        if self._log:
            self._log.write(step)

    def leave(self, step: int, state: State) -> None:
        """Saves what is not saved, waits until it is on the disk, and ends the run.

        Raises:
          Preempted: always.
        """
        if step != self._saved:
            self.save(step, state)
        with self._goodput("checkpoint"):
            self._checkpoints.wait()
        raise Preempted(f"saved step {step}; repeat the command to continue from there")
