"""Requests that arrive together are searched together: one product for up to 32 users."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class Busy(Exception):
    """Too many requests wait."""


@dataclasses.dataclass
class _Waiting:
    key: Hashable
    item: Any
    answer: asyncio.Future


class Batcher:
    """Collects items while a batch is being computed, and computes those of one key at once.

    Attributes:
      sizes: number of the items in each batch so far: how many batches had it.
    """

    def __init__(
        self,
        compute: Callable[[Hashable, list[Any]], list[Any]],
        largest: int = 32,
        longest_queue: int = 1_000,
    ):
        """`compute(key, items)` gives an answer for each item; it runs in a thread of its own."""
        self._compute, self._largest, self._longest = compute, largest, longest_queue
        self._queue: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="search")
        self._task: asyncio.Task | None = None

    async def ask(self, key: Hashable, item: Any) -> Any:
        """The answer for one item.

        Raises:
          Busy: the queue is full.
        """
        if len(self._queue) >= self._longest:
            raise Busy
        if self._task is None:
            self._task = asyncio.create_task(self._serve())
        waiting = _Waiting(key, item, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._wake.set()
        return await waiting.answer

    async def close(self) -> None:
        """Stops; what waits is cancelled."""
        if self._task is not None:
            self._task.cancel()
        for waiting in self._queue:
            waiting.answer.cancel()
        self._thread.shutdown(wait=True)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            # Who gave up (timeout, closed connection) is not computed for.
            self._queue = [one for one in self._queue if not one.answer.done()]
            if not self._queue:
                self._wake.clear()
                continue
            key = self._queue[0].key
            batch = [one for one in self._queue if one.key == key][: self._largest]
            taken = set(map(id, batch))
            self._queue = [one for one in self._queue if id(one) not in taken]
            items = [one.item for one in batch]
            try:
                answers = await loop.run_in_executor(self._thread, self._compute, key, items)
            except Exception as error:
                answers = [error] * len(batch)
            for one, answer in zip(batch, answers, strict=True):
                if one.answer.done():
                    continue
                if isinstance(answer, Exception):
                    one.answer.set_exception(answer)
                else:
                    one.answer.set_result(answer)
