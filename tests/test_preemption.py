"""Signals, and the step at which the processes of a run leave."""

import os
import signal
import threading
import time

import pytest

from negflax import preemption


class Shared:
    """A store of strings, as jax.distributed has one."""

    def __init__(self):
        self.values, self.lock = {}, threading.Lock()

    def key_value_set(self, key, value, allow_overwrite=False):
        with self.lock:
            self.values[key] = value

    def key_value_dir_get(self, key):
        with self.lock:
            return [(name, value) for name, value in self.values.items() if name.startswith(key)]


@pytest.fixture
def installed():
    left = []
    preemption.install(lambda: left.append(True))
    yield left
    preemption.uninstall()


def wait(condition):
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def asked():
    wait(lambda: preemption._listener._agreed.is_set())


def test_without_handlers_nothing_is_requested():
    with preemption.unsaved():
        assert not any(preemption.requested(step) for step in range(3))
        preemption.check()


@pytest.mark.parametrize("number", preemption.SIGNALS)
def test_a_loop_leaves_at_its_next_step(installed, number):
    with pytest.raises(preemption.Preempted, match="saved"), preemption.unsaved():
        for step in range(7, 20):
            if preemption.requested(step):
                assert step == 11
                raise preemption.Preempted("saved")
            if step == 10:
                os.kill(os.getpid(), number)
                asked()


def test_a_long_step_leaves_within_it(installed):
    with pytest.raises(preemption.Preempted, match="within step 1"), preemption.unsaved():
        for step in range(2):
            assert not preemption.requested(step)
        preemption.check()
        os.kill(os.getpid(), signal.SIGTERM)
        asked()
        preemption.check()


def test_after_the_last_step_it_leaves_too(installed):
    with pytest.raises(preemption.Preempted, match="last"), preemption.unsaved():
        for step in range(3):
            assert not preemption.requested(step)
        os.kill(os.getpid(), signal.SIGTERM)
        asked()


@pytest.mark.parametrize("steps", [0, 1])
def test_where_nothing_can_be_lost_it_is_raised_at_once(installed, steps):
    with pytest.raises(preemption.Preempted, match="nothing to save"), preemption.unsaved():
        for step in range(steps):
            assert not preemption.requested(step)
        os.kill(os.getpid(), signal.SIGHUP)
        wait(lambda: False)


def test_a_process_that_hangs_is_ended(installed, monkeypatch):
    monkeypatch.setattr(preemption, "GRACE_S", 0.1)
    with pytest.raises(preemption.Preempted):
        os.kill(os.getpid(), signal.SIGTERM)
        wait(lambda: False)
    wait(lambda: installed)


def test_handlers_are_given_back():
    before = [signal.getsignal(number) for number in preemption.SIGNALS]
    preemption.install(lambda: None)
    preemption.uninstall()
    assert [signal.getsignal(number) for number in preemption.SIGNALS] == before


def test_all_processes_leave_at_one_step(installed):
    """This process is at step 4 when another, which is at step 6, has been asked."""
    preemption.uninstall()
    store = Shared()
    preemption.install(lambda: None, store, 0, 2)
    left = None
    with preemption.unsaved():
        for step in range(20):
            if step == 5:
                store.key_value_set(f"{preemption.FOLDER}1", f"[{preemption._loops}, 6, 0]")
                asked()
            if preemption.requested(step):
                left = step
                break
        assert left == 7
        preemption.uninstall()


def test_one_that_compiles_leaves_with_the_others(installed):
    preemption.uninstall()
    store = Shared()
    preemption.install(lambda: None, store, 0, 2)
    with pytest.raises(preemption.Preempted, match="nothing"), preemption.unsaved():
        for step in range(4):
            assert not preemption.requested(step)
        store.key_value_set(f"{preemption.FOLDER}1", "null")
        wait(lambda: False)
