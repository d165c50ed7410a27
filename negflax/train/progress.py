"""What a training loop says: rate, time left, loss terms, and that a run has gone wrong."""

from __future__ import annotations

import math
import time

import jax
from absl import logging

from negflax.train.goodput_log import GoodputLog
from negflax.train.writers import MetricWriter

DIVERGED = 5  # times the log of the catalogue size, which is the loss of uniform predictions


class Progress:
    """Reads metrics that the device has finished.

    Attributes:
      targets: labels of all steps but the first, which compiles.
      skipped: steps in a row, up to the last one read, that were skipped as not finite.
    """

    def __init__(
        self,
        start: int,
        steps: int,
        every: int,
        items: int,
        writer: MetricWriter | None,
        log: GoodputLog | None,
    ):
        """Steps done and planned, steps between lines, catalogue rows, where metrics and time go.

        Only the first process writes these two.
        """
        self._start, self._steps, self._every = start, steps, every
        self._writer, self._log = writer, log
        self._since, self._unread = time.perf_counter(), []
        self._bound, self._diverged = DIVERGED * math.log(max(items, 2)), False
        self.targets = self.skipped = self._all_skipped = 0

    def read(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """`metrics` of `step`, which are there; fetched in groups, at each line of progress."""
        bad = int(metrics["skipped"])
        self.skipped, self._all_skipped = bad * (self.skipped + 1), self._all_skipped + bad
        if bad:
            logging.warning("step %d is skipped: its loss or gradient is not finite", step)
        self._unread.append((step, metrics))
        if step % self._every == 0:
            self.flush()

    def flush(self) -> None:
        """A line for what was read since the last one."""
        if not self._unread:
            return
        fetched = jax.device_get(self._unread)
        step = fetched[-1][0]
        self.targets += sum(int(m["labels"]) for s, m in fetched if s > self._start + 1)
        values = {name: float(value) for name, value in fetched[-1][1].items()}
        values["skipped"] = float(self._all_skipped)
        self._unread = []
        if self._writer:
            self._writer.write(step, "train", values)
        if self._log:
            self._log.write(step)
        self._say_if_diverged(step, values["loss_positive"])
        elapsed = time.perf_counter() - self._since
        rate = (step - self._start) / elapsed
        logging.info(
            "step %d/%d  %.1f steps/s  ETA %s  loss %.4f  positive %.4f  negative %.5f  push %.3f",
            step,
            self._steps,
            rate,
            _clock((self._steps - step) / rate),
            values["loss"],
            values["loss_positive"],
            values["loss_negative"],
            values["push"],
        )

    def validated(self, step: int, found: dict[str, float]) -> None:
        """Metrics of a validation."""
        if self._writer:
            self._writer.write(step, "valid", found)
        first = min((int(k.split("@")[1]) for k in found if k.startswith("hr_p@")), default=0)
        shown = [f"{name}@{first}" for name in ("hr_p", "hr_n", "ndcg_p", "delta")]
        line = [f"{k} {found[k]:.4f}" for k in shown if found.get(k) is not None]
        logging.info("valid %d/%d  %s", step, self._steps, "  ".join(line))

    def _say_if_diverged(self, step: int, loss: float) -> None:
        if self._diverged or not loss > self._bound:
            return
        self._diverged = True
        logging.warning(
            "step %d: the loss of positive labels is %.3g, and that of uniform predictions is "
            "%.3g: training has diverged. Lower config.optimizer.learning_rate or "
            ".table_learning_rate, or the weight of the negative term",
            step,
            loss,
            self._bound / DIVERGED,
        )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"
