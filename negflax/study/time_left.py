"""Progress of a study and estimated time left."""

from __future__ import annotations

import statistics

from absl import logging


class Progress:
    """Counts runs by kind (the first word of the name); runs of a kind take about equally long."""

    def __init__(self) -> None:
        """Starts without planned runs."""
        self._planned: dict[str, int] = {}
        self._seconds: dict[str, list[float]] = {}

    def plan(self, runs: dict[str, int]) -> None:
        """Sets the number of planned runs of each kind, and logs it."""
        self._planned = dict(runs)
        logging.info("study: %s", ", ".join(f"{n} {kind}" for kind, n in runs.items()))

    def known(self, name: str) -> None:
        """Counts a run that was finished earlier."""
        kind = name.split("-")[0]
        self._planned[kind] = self._planned.get(kind, 1) - 1

    def made(self, name: str, seconds: float) -> None:
        """Counts a run that was finished now, and logs the estimated time left."""
        self.known(name)
        self._seconds.setdefault(name.split("-")[0], []).append(seconds)
        every = [s for some in self._seconds.values() for s in some]
        left = sum(
            max(n, 0) * statistics.median(self._seconds.get(kind) or every)
            for kind, n in self._planned.items()
        )
        count = sum(max(n, 0) for n in self._planned.values())
        logging.info(
            "study: %s, %.0f s; %d runs to go, ETA %.0f min", name, seconds, count, left / 60
        )
