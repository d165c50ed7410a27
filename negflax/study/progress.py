"""How far a study is, and how long it will go on."""

from __future__ import annotations

import statistics

from absl import logging


class Progress:
    """Counts runs by their kind, the first word of their name; most of a kind take alike."""

    def __init__(self) -> None:
        """Nothing is planned yet."""
        self._planned: dict[str, int] = {}
        self._seconds: dict[str, list[float]] = {}

    def plan(self, runs: dict[str, int]) -> None:
        """How many runs of each kind there will be."""
        self._planned = dict(runs)
        logging.info("study: %s", ", ".join(f"{n} {kind}" for kind, n in runs.items()))

    def known(self, name: str) -> None:
        """A run that an earlier start of the study made."""
        kind = name.split("-")[0]
        self._planned[kind] = self._planned.get(kind, 1) - 1

    def made(self, name: str, seconds: float) -> None:
        """A run that was made now: tells the time left, as far as kinds have been seen."""
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
