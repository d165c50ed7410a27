"""Disks that fill up, turn read-only or go away under a run; mounting small ones takes root."""

import contextlib
import os
import subprocess

import jax
import numpy as np
import pytest
import tiny

from negflax.train.checkpoint import CheckpointError
from negflax.train.loop import train
from negflax.train.run_config import write_config
from negflax.train.workdir_lock import locked

# A write that failed leaves threads and event loops of Orbax behind.
pytestmark = [
    pytest.mark.system,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]
SEQUENCES = tiny.make_sequences()
TRAINER, BATCHES = tiny.make_trainer(tiny.CONFIG, SEQUENCES)


def call(*command):
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path):
    """A disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not call("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)):
        pytest.skip("mounting a small disk takes root")
    yield folder
    call("umount", "-l", str(folder))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return train(tiny.CONFIG, TRAINER, BATCHES, 20, tmp_path_factory.mktemp("run")).state


def fill(disk):
    with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def run(folder, fault=lambda: None, steps=20):
    """Trains; the fault comes with step 12, between two saves."""
    real = TRAINER.step

    def step(state, batch):
        if int(state["step"]) == 12:
            fault()
        return real(state, batch)

    TRAINER.step = step
    try:
        with locked(folder):
            write_config(folder, tiny.CONFIG)
            return train(tiny.CONFIG, TRAINER, BATCHES, steps, folder)
    finally:
        TRAINER.step = real


def test_a_disk_that_fills_up_stops_a_run_in_words_which_then_goes_on(disk, undisturbed):
    with pytest.raises(
        CheckpointError, match="step (10|15|20) was not written to .*No space left.*start again"
    ):
        run(disk / "run", lambda: fill(disk))
    with pytest.raises(CheckpointError):  # from the very start of a run, too
        run(disk / "another")
    (disk / "filler").unlink()
    state = run(disk / "run").state
    jax.tree.map(np.testing.assert_array_equal, state, undisturbed)


def test_a_full_disk_stops_no_run_that_saves_nothing_meanwhile(disk, undisturbed, caplog):
    def cleared():
        (disk / "filler").unlink()

    real = TRAINER.step
    fill(disk)
    (disk / "filler").unlink()
    config = tiny.changed(train={"checkpoint_every": 0, "log_every": 1})

    def step(state, batch):
        done = int(state["step"])
        if done == 2:
            fill(disk)
        elif done == 19:
            cleared()
        return real(state, batch)

    TRAINER.step = step
    try:
        state = train(config, TRAINER, BATCHES, 20, disk / "run").state
    finally:
        TRAINER.step = real
    jax.tree.map(np.testing.assert_array_equal, state, undisturbed)
    assert caplog.text.count("training continues without it") <= 3


def test_a_folder_that_cannot_be_written_from_the_start(disk):
    assert call("mount", "-o", "remount,ro", str(disk))
    with pytest.raises(CheckpointError, match="cannot be written: Read-only file system"):
        run(disk / "run")


def test_a_disk_that_goes_away(disk):
    os.mkdir(disk / "run")
    with pytest.raises(CheckpointError, match="has vanished|was not written"):
        run(disk / "run", lambda: call("umount", "-l", str(disk)))
