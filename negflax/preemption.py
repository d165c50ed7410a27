"""Leaving when asked: signals, and the one point at which all processes of a run leave.

Schedulers announce the end of a machine by SIGTERM, people press Ctrl-C, a terminal that closes
sends SIGHUP. A training loop has steps to save, so there the signal waits for the next call of
`requested`, which gives the same answer at the same step on every process:

  with preemption.unsaved():
      for batch in batches:
          if preemption.requested(step):
              save(step, state)
              raise preemption.Preempted(f"saved step {step}")
          state = train_step(state, batch)

What takes long within a step, validation above all, calls `check`, which raises `Preempted` at the
same call on every process; the loop saves and raises it again.

Everywhere else nothing can be lost: data is being prepared, the first step compiled, a test period
scored. There `Preempted` is raised where the process stands, as Ctrl-C raises KeyboardInterrupt,
and a process that is deep within a compiler or a collective ends after GRACE_S.

A thread listens, so that neither the device nor the loop waits for it. When it hears a signal, its
own or through the store another process's, it holds the loop at its next call, publishes how far
the loop is and reads what the others publish. The first call beyond the farthest is the one.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LISTEN_S = 0.2  # between two looks into the store
GRACE_S = 1.5  # for a process to leave by itself where there is nothing to save
NOTHING_LOST = "there was nothing to save; repeat the command to continue"
FOLDER = "negflax/leaving/"  # of the store: process → where its loop is

Place = tuple[int, int, int]  # (loop, step, call within the step)


class Preempted(BaseException):
    """The run was asked to leave, and has saved what it had; the message says at which step.

    No Exception, as KeyboardInterrupt is none: what handles errors must not handle this.
    """


class Store(Protocol):
    """What processes share: the client of jax.distributed."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        """Stores a string."""

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        """(key, value) of all whose key begins with `key`; at once."""


class _Listener:
    """What this process has heard, and where its loop is.

    Attributes:
      place: of the newest call; None outside of a loop, and until its second step.
      farthest: of all processes' places, once they agreed.
      at_once: nothing can be lost, so nothing waits for the loop.
    """

    def __init__(self, leave: Callable[[], None], store: Store | None, index: int, count: int):
        self._leave, self._store, self._index, self._count = leave, store, index, count
        self.place: Place | None = None
        self.farthest: Place | None = None
        self.at_once = self.raised = False
        self._lock, self._asked, self._agreed = threading.Lock(), False, threading.Event()
        self._reads, self._wakes = os.pipe()
        os.set_blocking(self._wakes, False)  # the C handler of a signal writes there
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        self._wakes_before = signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, name="preemption", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The signals do again what they did before."""
        signal.set_wakeup_fd(self._wakes_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._wakes)  # ends the thread
        self._thread.join()
        os.close(self._reads)

    def _handle(self, number: int, frame: object) -> None:
        """In the main thread, whenever a signal came; the thread has sent the one that counts."""
        if self.at_once and not self.raised:
            self.raised = True
            raise Preempted(NOTHING_LOST)

    def reached(self, place: Place | None) -> bool:
        """Enters a place, None at the end of a loop; True where all processes leave.

        Waits while they agree.
        """
        with self._lock:
            asked = self._asked
            if not asked:
                self.place = place
        if not asked:
            return False
        self._agreed.wait()
        if self.at_once:
            self.raised = True
            raise Preempted(NOTHING_LOST)
        return place is None or place > self.farthest

    def _listen(self) -> None:
        interrupts, nudged = 0, 0.0
        while True:
            waits = None if self._count == 1 and not nudged else LISTEN_S
            came = b""
            if select.select([self._reads], [], [], waits)[0]:
                came = os.read(self._reads, 64)
                if not came:
                    return
            interrupts += came.count(signal.SIGINT)
            if interrupts > 1:  # the second Ctrl-C: at once, as without a handler
                os._exit(128 + signal.SIGINT)
            heard = any(number in came for number in SIGNALS)
            if not self._asked and (heard or self._told()):
                with self._lock:
                    self._asked = True
                self._tell()
            if self._asked and not self._agreed.is_set():
                self._agree()
            if self.at_once and not nudged:
                nudged = time.monotonic()
                signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
            if nudged and time.monotonic() - nudged > GRACE_S * (2 if self.raised else 1):
                self._leave()

    def _told(self) -> bool:
        """Whether another process has been asked."""
        try:
            return self._store is not None and bool(self._store.key_value_dir_get(FOLDER))
        except RuntimeError:  # the coordinator is gone, and soon this process will be
            return False

    def _tell(self) -> None:
        if self._store is not None:
            self._store.key_value_set(f"{FOLDER}{self._index}", json.dumps(self.place))

    def _agree(self) -> None:
        """Where all leave, once every process has told its place."""
        places = [self.place]
        if self._store is not None:
            places = [json.loads(text) for _, text in self._store.key_value_dir_get(FOLDER)]
        if len(places) < self._count:
            return
        # One that has no step to save was in none that the others could have finished.
        if None in places:
            self.at_once = True
        else:
            self.farthest = max(tuple(place) for place in places)
        self._agreed.set()


_listener: _Listener | None = None
_loops, _calls, _step, _first = 0, 0, 0, None


def install(
    leave: Callable[[], None], store: Store | None = None, index: int = 0, count: int = 1
) -> None:
    """Handles SIGTERM, SIGINT and SIGHUP from here on; in the main thread.

    Args:
      leave: ends the process; called by the listening thread where the main thread does not come
        back from a compiler or a collective and there is nothing to save.
      store: what the processes share; None with one process.
      index: of this process.
      count: of all processes.
    """
    global _listener
    if _listener is None:
        _listener = _Listener(leave, store, index, count)


def uninstall() -> None:
    """The signals do again what they did before `install`."""
    global _listener
    if _listener is not None:
        _listener.close()
        _listener = None


@contextlib.contextmanager
def unsaved() -> Iterator[None]:
    """Around a loop that saves when `requested` says so: signals wait for it.

    At its end everything must be saved, as a signal that found no next step is raised there.
    """
    global _loops, _first
    _loops, _first = _loops + 1, None
    try:
        yield
    finally:
        _first = None
    if _listener is not None and _listener.reached(None):
        raise Preempted("after the last step, which is saved; repeat the command to continue")


def requested(step: int) -> bool:
    """Whether to save and leave before this step: the same answer on every process.

    Every process calls this once for each step, and no process waits for another unless one of
    them has been asked to leave. False where no handlers are installed.
    """
    global _calls, _step, _first
    _first = step if _first is None else _first
    _step, _calls = step, 0
    if _listener is None:
        return False
    return _listener.reached(None if step == _first else (_loops, step, 0))


def check() -> None:
    """Raises `Preempted` where the run was asked to leave, at the same call on every process.

    For what takes long within a step, between parts that every process goes through alike.
    """
    global _calls
    _calls += 1
    if _listener is None:
        return
    place = None if _first is None or _step == _first else (_loops, _step, _calls)
    if _listener.reached(place):
        raise Preempted(f"within step {_step}")
