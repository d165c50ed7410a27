"""What is written by a thread of its own, so that it can never stop, block or fail a run."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from absl import logging

WAITING = 1000  # calls that wait at most; more are dropped
CLOSE_S = 20.0  # for what waits as a run ends; services upload their last values then


class Sink(Protocol):
    """Where values go."""

    def write(self, *values: Any) -> None:
        """One of them."""

    def close(self) -> None:
        """After the last one."""


class Background:
    """A sink that is opened, written and closed in order by one daemon thread.

    Whatever it raises is one warning, and the next values are tried all the same. Where it hangs,
    values wait, up to `WAITING`, and are then dropped with one warning.
    """

    def __init__(self, name: str, open_sink: Callable[[], Sink]):
        """The sink's name for warnings, and what opens it."""
        self.name, self._open, self._told = name, open_sink, False
        self._waiting: queue.Queue[tuple[Any, ...] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._work, name=f"negflax-{name}", daemon=True)
        self._thread.start()

    def write(self, *values: Any) -> None:
        """Hands values to the thread; never waits."""
        try:
            self._waiting.put_nowait(values)
        except queue.Full:
            self._tell("it hangs, so values are dropped")

    def close(self, deadline: float | None = None) -> None:
        """Ends the thread once it has written what waits, or leaves it behind at the deadline.

        Args:
          deadline: by time.monotonic(); None: `CLOSE_S` from now.
        """
        deadline = time.monotonic() + CLOSE_S if deadline is None else deadline
        try:
            self._waiting.put(None, timeout=max(0.0, deadline - time.monotonic()))
        except queue.Full:
            pass
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._tell("it hangs, so its last values are lost")

    def _work(self) -> None:
        sink = self._try(self._open)
        while (values := self._waiting.get()) is not None:
            if sink is not None:
                self._try(sink.write, *values)
        if sink is not None:
            self._try(sink.close)

    def _try(self, call: Callable[..., Any], *values: Any) -> Any:
        try:
            return call(*values)
        except Exception as error:
            self._tell(f"{type(error).__name__}: {error}")
            return None

    def _tell(self, problem: str) -> None:
        if not self._told:
            self._told = True
            logging.warning("%s: %s; training continues without it", self.name, problem)
