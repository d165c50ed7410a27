"""Where the time goes: wall and CPU seconds by named phase."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any


class Goodput:
    """Adds up the phases of a run; `with goodput("evaluate"):` interrupts whatever phase it is in.

    Attributes:
      wall: seconds by phase.
      cpu: CPU seconds of the process, all threads, by phase.
    """

    def __init__(self) -> None:
        """Starts in the phase `start`."""
        self.wall: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        self._phase = "start"
        self._last = time.perf_counter(), time.process_time()

    def enter(self, phase: str) -> None:
        """What happens from now on counts as `phase`."""
        now = time.perf_counter(), time.process_time()
        self.wall[self._phase] += now[0] - self._last[0]
        self.cpu[self._phase] += now[1] - self._last[1]
        self._phase, self._last = phase, now

    def so_far(self) -> dict[str, dict[str, float]]:
        """A copy of `wall` and `cpu`, the present phase included."""
        self.enter(self._phase)
        return {"wall": dict(self.wall), "cpu": dict(self.cpu)}

    def fed(self, stream: Iterator[Any], busy: Callable[[], bool]) -> Iterator[Any]:
        """Yields what the stream yields; the time for which nothing ran counts as `wait`.

        All of a wait counts at whose end the devices had nothing left to do, so that `wait` is an
        upper bound: they may have run out of work late in it.

        Args:
          stream: batches.
          busy: whether the devices still have work.
        """
        while True:
            begin = time.perf_counter()
            try:
                item = next(stream)
            except StopIteration:
                return
            if not busy():
                waited = time.perf_counter() - begin
                self.wall["wait"] += waited
                self.wall[self._phase] -= waited
            yield item

    @property
    def wait_share(self) -> float:
        """`wait` as a share of the time of the steps, `step` and `wait`; 0 before a step."""
        total = self.wall["step"] + self.wall["wait"]
        return self.wall["wait"] / total if total else 0.0

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """A phase within the present one."""
        before = self._phase
        self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)
