"""The prefetching thread: order, errors and its end."""

import threading
import time

import pytest

from negflax.data import prefetch


class Numbers:
    """Batches that are their own number; one of them fails."""

    def __init__(self, bad=None):
        self.asked = []
        self.bad = bad

    def batch(self, i):
        self.asked.append(i)
        if i == self.bad:
            raise RuntimeError(f"batch {i} is bad")
        return i


def alive():
    return [t for t in threading.enumerate() if t.name == "negflax-prefetch"]


@pytest.mark.parametrize("depth", [0, 1, 3, 50])
def test_order(depth):
    assert list(prefetch(Numbers(), 5, 12, depth, lambda x: -x)) == [-i for i in range(5, 12)]
    assert list(prefetch(Numbers(), 3, 3, depth, lambda x: x)) == []
    assert not alive()


def test_an_error_reaches_the_consumer_at_its_batch():
    seen = []
    with pytest.raises(RuntimeError, match="batch 2 is bad"):
        seen.extend(prefetch(Numbers(bad=2), 0, 9, 4, seen.append))
    assert not alive()

    def put(batch):
        raise ValueError("no room on the device")

    with pytest.raises(ValueError, match="no room"):
        next(prefetch(Numbers(), 0, 9, 2, put))
    assert not alive()


@pytest.mark.parametrize("wait", [0.0, 0.05])
def test_closing_ends_the_thread(wait):
    numbers = Numbers()
    batches = prefetch(numbers, 0, 10**9, 2, lambda x: x)
    assert next(batches) == 0
    time.sleep(wait)  # the thread may wait for room, or still be at work
    assert len(alive()) == 1 and alive()[0].daemon
    batches.close()
    assert not alive()
    assert len(numbers.asked) < 100
