"""Batches prepared ahead of the device by a thread of their own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol


class _Batches(Protocol):
    def batch(self, i: int) -> Any: ...


def prefetch(
    batches: _Batches, start: int, stop: int, depth: int, put: Callable[[Any], Any]
) -> Iterator[Any]:
    """Yields put(batches.batch(i)) for i in start, ..., stop - 1.

    Args:
      batches: anything with `batch(i)`, such as StreamBatches.
      start: first batch.
      stop: one after the last batch.
      depth: batches that wait ready, at least 1.
      put: moves a batch to the devices, such as a device_put with the batch's sharding.

    Raises:
      Exception: whatever the thread met, at the batch where it met it. Closing the iterator ends
        the thread.
    """
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=max(depth, 1))
    closed = threading.Event()

    def work() -> None:
        for i in range(start, stop):
            try:
                item = (put(batches.batch(i)), None)
            except BaseException as error:  # the consumer raises it
                item = (None, error)
            if not closed.is_set():
                ready.put(item)
            if closed.is_set() or item[1] is not None:
                return

    thread = threading.Thread(target=work, name="negflax-prefetch", daemon=True)
    thread.start()
    try:
        for _ in range(start, stop):
            batch, error = ready.get()
            if error is not None:
                raise error
            yield batch
    finally:
        closed.set()
        while not ready.empty():  # a thread that waits for room then sees that it is over
            ready.get_nowait()
        thread.join()
