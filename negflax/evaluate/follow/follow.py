"""Follows a training run: evaluates every new checkpoint and promotes the best one.

<out>/config.json             config of the run; a folder of another run is refused
<out>/evaluations/STEP.json   figures of a checkpoint, which is not evaluated again
<out>/snapshots/STEP/         checkpoints that wait for evaluation, and the best one
<out>/best -> snapshots/STEP  the best checkpoint, as a run folder for any program's --workdir
<out>/best.json               its step and metric
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import logging

from negflax.evaluate.follow.snapshots import RUN_FILES, Snapshots, copy_folder, meanwhile
from negflax.evaluate.protocol import EvaluationError
from negflax.files import replace_link, write_json
from negflax.processes import from_first, is_first
from negflax.train.checkpoint import CheckpointError, read_config, write_config
from negflax.train.loop import DONE, LOWER_IS_BETTER, warm_up_steps

Evaluate = Callable[[Path, int], dict[str, Any]]


class Follower:
    """Evaluates the checkpoints of a run, which it only reads, into another folder.

    Attributes:
      metric: metric that selects the best checkpoint, such as `ndcg_p@10`.
    """

    def __init__(self, workdir: Path, out: Path, metric: str):
        """Opens `out`, and completes what a killed follower has left there.

        Raises:
          CheckpointError: `workdir` is not a run, or `out` lies inside it or holds another run.
        """
        self._workdir, self._out, self.metric = Path(workdir), Path(out), metric
        if self._out.resolve().is_relative_to(self._workdir.resolve()):
            raise CheckpointError(f"{out} is inside the folder of the run: name one outside of it")
        config = read_config(workdir)
        from_first(lambda: write_config(out, config))
        self._first = warm_up_steps(config) + 1  # checkpoints of the warm-up are never the best
        self._sign = -1 if metric.split("@")[0] in LOWER_IS_BETTER else 1
        self._snapshots = Snapshots(workdir, self._out / "snapshots", clear=is_first())
        from_first(self._settle)

    def run(self, evaluate: Evaluate, poll: float, timeout: float = 0) -> dict[int, dict[str, Any]]:
        """Evaluates checkpoints as they appear, until the run has written its done marker.

        Args:
          evaluate: function of (folder of the snapshot, step) that returns figures for JSON,
            `metric` among them. If it raises CheckpointError, the checkpoint is tried again after
            it has changed; an EvaluationError is recorded in place of figures.
          poll: seconds between checks for new checkpoints.
          timeout: seconds without a new checkpoint after which it stops; 0: never.

        Returns:
          Figures by step, those of earlier calls too.

        Raises:
          CheckpointError: `timeout` has passed.
          EvaluationError: `metric` is not among the figures.
        """
        self._news = time.monotonic()
        take = self._take if is_first() else _nothing
        while True:
            ended, waiting = from_first(lambda: self._look(timeout))
            if waiting:
                with meanwhile(take, poll):
                    self._evaluate(evaluate, waiting[0], len(waiting) - 1)
                self._news = time.monotonic()
            elif ended:
                break
            else:
                time.sleep(poll)
        for step in sorted(self._snapshots.unreadable):
            logging.warning("step %d was not evaluated, as its checkpoint cannot be read", step)
        return self.evaluations()

    def evaluations(self) -> dict[int, dict[str, Any]]:
        """Returns the figures by step, ascending."""
        return {step: json.loads(self._file(step).read_text()) for step in sorted(self._done())}

    def best(self) -> int | None:
        """Returns the step of the best checkpoint so far, the earliest of equals, or None."""
        found = {
            step: self._sign * figures[self.metric]
            for step, figures in self.evaluations().items()
            if step >= self._first and figures.get(self.metric) is not None
        }
        return max(found, key=lambda step: (found[step], -step), default=None)

    def _look(self, timeout: float) -> tuple[bool, list[int]]:
        """Returns whether the run has ended, and the steps to evaluate, ascending."""
        ended = (self._workdir / DONE).exists()  # checked first, so that no checkpoint is missed
        self._take()
        waiting = sorted(self._snapshots.steps() - self._done())
        if timeout and not waiting and not ended and time.monotonic() - self._news > timeout:
            raise CheckpointError(
                f"{self._workdir} has no new checkpoint after {timeout:g} s and is not done (no "
                f"{DONE}): if training has stopped, start it again, then this program"
            )
        return ended, waiting

    def _file(self, step: int) -> Path:
        return self._out / "evaluations" / f"{step}.json"

    def _done(self) -> set[int]:
        return {int(path.stem) for path in self._file(0).parent.glob("[0-9]*.json")}

    def _take(self) -> None:
        self._snapshots.take(self._done())

    def _evaluate(self, evaluate: Evaluate, step: int, waiting: int) -> None:
        began = time.monotonic()
        try:
            figures = evaluate(self._snapshots.path(step), step)
        except CheckpointError as error:  # partly written or partly deleted
            logging.warning("step %d cannot be read: %s", step, error)
            from_first(lambda: self._snapshots.refuse(step))
            return
        except EvaluationError as error:
            logging.error("step %d cannot be evaluated: %s", step, error)
            figures = {"error": str(error)}
        if "error" not in figures and self.metric not in figures:
            names = (key for key in figures if not key.endswith(("_low", "_high", "_n")))
            raise EvaluationError(
                f"metric {self.metric!r} is not measured; choose from {', '.join(names)}"
            )
        from_first(lambda: self._record(step, figures))
        value = figures.get(self.metric)
        logging.info(
            "step %d: %s %s, %.1f s; best: step %s; waiting: %d",
            step,
            self.metric,
            "undefined" if value is None else f"{value:.4f}",
            time.monotonic() - began,
            self.best(),
            waiting,
        )

    def _record(self, step: int, figures: dict[str, Any]) -> None:
        write_json(self._file(step), {"step": step} | figures)
        self._snapshots.unreadable.pop(step, None)
        self._settle()

    def _settle(self) -> None:
        """Promotes the best snapshot and deletes other evaluated ones; safe to repeat."""
        best, done = self.best(), self.evaluations()
        if best is not None:
            replace_link(self._out / "best", Path("snapshots") / str(best))
            names = {"value": "", "low": "_low", "high": "_high"}
            figures = {name: done[best].get(self.metric + end) for name, end in names.items()}
            write_json(self._out / "best.json", {"step": best, "metric": self.metric} | figures)
        for step in self._snapshots.steps() & set(done) - {best}:
            self._snapshots.release(step)


def _nothing() -> None:
    """Does nothing; used by all processes except the first."""


def wait_for_run(workdir: Path, poll: float, timeout: float = 0) -> None:
    """Waits until a trainer has written its config and vocabulary.

    Raises:
      CheckpointError: `timeout` seconds (0: never) have passed.
    """
    began, told = time.monotonic(), False
    while not all((Path(workdir) / name).exists() for name in RUN_FILES):
        if not told:
            logging.info("waiting for a run in %s", workdir)
            told = True
        if timeout and time.monotonic() - began > timeout:
            raise CheckpointError(f"no run has started in {workdir} within {timeout:g} s")
        time.sleep(poll)


def take_data(workdir: Path, out: Path) -> None:
    """Links the run's data folder (synthetic source) into `out`, if it has one.

    Otherwise the data would be generated in the folder of the run.
    """
    if (Path(workdir) / "data").is_dir() and not (Path(out) / "data").exists():
        copy_folder(Path(workdir) / "data", Path(out) / "data")
