"""What the processes of a run do alone, and tell each other without a device.

Every process runs the same program. What is single, such as a file in the run's folder or a look
at a clock, is the first one's, and the others get what it found. One process needs none of this,
and calls nothing of it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import jax

from negflax.preemption import NOTHING_LOST, Preempted

LOOK_MS = 500  # a wait is cut so often, as signals are handled in between
MEET_MS = 7 * 24 * 3600 * 1000  # a process that is gone ends the wait before
_FOLDER = "negflax/first/"
_calls = itertools.count()


class FirstFailedError(RuntimeError):
    """The first process ended with an error, which it has told itself."""


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return _state().process_id == 0


def several() -> bool:
    """Whether the run has more than one process."""
    return _state().num_processes > 1


def from_first(make: Callable[[], Any]) -> Any:
    """What `make` returns in the first process, on all of them; JSON values.

    Every process calls this at the same place of the program, and the others wait.

    Raises:
      FirstFailedError: on the others, where `make` raised.
      Preempted: on all, where the first one was asked to leave meanwhile.
    """
    if _state().num_processes == 1:
        return make()
    store, key = _state().client, f"{_FOLDER}{next(_calls)}"
    if is_first():
        told: dict[str, Any] = {"error": "it was interrupted"}
        try:
            value = make()
            told = {"value": value}
        except Preempted:
            told = {"preempted": True}
            raise
        except Exception as error:
            told = {"error": f"{type(error).__name__}: {error}"}
            raise
        finally:
            store.key_value_set(key, json.dumps(told))
        return value
    told = json.loads(_wait_for(store, key))
    if "preempted" in told:
        raise Preempted(NOTHING_LOST)
    if "error" in told:
        raise FirstFailedError(f"process 0: {told['error']}")
    return told["value"]


@contextlib.contextmanager
def first_alone() -> Iterator[bool]:
    """The body in the first process, then in all others at once; True in the first one.

    For what is made once and then found, such as a cache, on a disk that the processes may share.
    """
    if not is_first():
        from_first(lambda: None)
        yield False
        return
    try:
        yield True
    except BaseException as error:
        problem = error
        with contextlib.suppress(type(error)):
            from_first(lambda: _raise(problem))
        raise
    from_first(lambda: None)


def meet() -> None:
    """Waits until every process is here.

    Between work that may take one of them much longer and the next collective: on CPUs a collective
    (Gloo's) waits for half a minute at most.
    """
    state = _state()
    if state.num_processes > 1:
        state.client.wait_at_barrier(f"negflax/meet/{next(_calls)}", MEET_MS)


def _raise(error: BaseException) -> None:
    raise error


def _wait_for(store: Any, key: str) -> str:
    while True:
        try:
            return store.blocking_key_value_get(key, LOOK_MS)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


def _state() -> Any:
    """Number, count and store of the processes; jax.process_index() would start a backend."""
    from jax._src import distributed  # no public name for it

    return distributed.global_state
