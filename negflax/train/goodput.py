"""Where the time goes: wall and CPU seconds by named phase."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator


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

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """A phase within the present one."""
        before = self._phase
        self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)
