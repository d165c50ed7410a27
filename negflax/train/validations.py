"""Which checkpoint is the best one: by what validation found at each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from absl import logging

from negflax.config import ConfigError
from negflax.train.run_config import CheckpointError

Metrics = dict[str, float]


class Validations:
    """Metrics by step, None where a checkpoint was not validated.

    Attributes:
      metric: names the best one.
      found: step → metrics.
    """

    def __init__(self, metric: str, lower_is_better: bool, found: dict[int, Metrics | None]):
        """See the class; `lower_is_better` of the metric."""
        self.metric, self.found, self._sign = metric, found, -1 if lower_is_better else 1

    def checked(self, metrics: Metrics | None) -> Metrics | None:
        """The metrics; None, with a warning, where the one that names the best is undefined.

        Such a checkpoint is never the best.

        Raises:
          ConfigError: that one is not among them.
        """
        if metrics is not None and self.metric not in metrics:
            raise ConfigError(
                f"config.train.metric = {self.metric!r} is not measured; choose from "
                f"{', '.join(sorted(metrics))}"
            )
        if metrics is not None and metrics[self.metric] is None:
            logging.log_first_n(
                logging.WARNING,
                "%s is undefined on the validation period (no such label there?): no checkpoint "
                "counts as the best, the newest stands in, and config.train.patience does nothing. "
                "Choose another config.train.metric",
                1,
                self.metric,
            )
            return None
        return metrics

    def best(self) -> tuple[int, Metrics] | None:
        """(step, metrics) of the best one; of equals the earliest; None: there is none."""
        valid = [(s, m) for s, m in self.found.items() if m and m.get(self.metric) is not None]
        return max(valid, key=lambda x: (self._sign * x[1][self.metric], -x[0]), default=None)

    def in_line(self, which: str, steps: Sequence[int], folder: Path) -> list[int]:
        """Of the steps, ascending, that which `which` names, then what stands in for it, in order.

        Raises:
          CheckpointError: there is none of that name; the message lists those in the folder.
        """
        if not steps:
            raise CheckpointError(f"{folder} has no finished checkpoint yet")
        if which == "latest":
            return list(steps)[::-1]
        if which == "best":
            return sorted(steps, key=self._merit, reverse=True)
        if which.isdigit() and int(which) in steps:
            return [int(which)]
        raise CheckpointError(
            f"checkpoint {which!r} is not in {folder}: choose latest, best or one of {list(steps)}"
        )

    def _merit(self, step: int) -> tuple:
        """Order: validated ones by their metric, the earliest of equals, then the newest."""
        value = (self.found.get(step) or {}).get(self.metric)
        return (False, 0.0, step) if value is None else (True, self._sign * value, -step)
