"""One trainer a folder: who lives is told, who is dead is followed."""

import errno
import json
import os
import subprocess
import sys
import threading

import pytest

from negflax.train import workdir_lock as lock
from negflax.train.run_config import CheckpointError
from negflax.train.workdir_lock import LOCK, locked


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(lock, "BEAT_S", 0.02)
    monkeypatch.setattr(lock, "LIMIT_S", 0.5)


def write(folder, **owner):
    """Another trainer's lock."""
    me = {"token": "other", "user": "ann", "host": "far", "machine": "far", "pid": 7, "started": 1}
    (folder / LOCK).write_text(json.dumps(me | owner))
    return folder / LOCK


def test_a_lock_is_held_renewed_and_removed(tmp_path):
    folder = tmp_path / "run"
    with locked(folder), locked(folder):
        first = json.loads((folder / LOCK).read_text())
        assert (first["pid"], first["host"]) == (os.getpid(), os.uname().nodename)
        assert lock._changes(folder / LOCK, first, 10)
        lock.check(folder)
    assert not folder.exists()  # it was made for nothing


def test_a_living_process_of_this_machine_is_named(tmp_path):
    parent = os.getppid()
    write(tmp_path, machine=lock._machine(), pid=parent, started=lock._started(parent))
    with pytest.raises(CheckpointError, match=rf"ann@far \(process {parent}\) is training there"):
        with locked(tmp_path):
            pass


@pytest.mark.parametrize(
    "owner",
    [
        {"pid": 2**22 + 1, "started": "5"},  # dead
        {"pid": os.getpid(), "started": "5"},  # its number has gone to another process
    ],
)
def test_the_lock_of_a_dead_process_is_taken_over_at_once(tmp_path, owner, caplog, monkeypatch):
    monkeypatch.setattr(lock, "LIMIT_S", 1e6)
    write(tmp_path, machine=lock._machine(), **owner)
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["token"] != "other"
    assert "ann@far" in caplog.text and "taken over" in caplog.text


@pytest.mark.parametrize("clock", [0, 1e9, -1e9])
def test_a_trainer_on_another_machine_is_recognised_by_its_heartbeat(tmp_path, clock, monkeypatch):
    """Whatever the clocks say: they jump, and two machines' differ."""
    monkeypatch.setattr(lock.time, "time", lambda: clock)
    path = write(tmp_path, beat="000")
    os.utime(path, (0, 0))
    ended = threading.Event()

    def beat(number=0):
        while not ended.wait(0.02):
            number += 1
            write(tmp_path, beat=f"{number:03d}")

    thread = threading.Thread(target=beat)
    thread.start()
    with pytest.raises(CheckpointError, match=r"ann@far \(process 7\) is training there"):
        with locked(tmp_path):
            pass
    ended.set()
    thread.join()
    with locked(tmp_path):  # no beat within the limit: it is dead
        pass


@pytest.mark.parametrize("text", ["", "{", "\0\0\0", "[]"])
def test_an_unreadable_lock_is_taken_over_eventually(tmp_path, text):
    (tmp_path / LOCK).write_text(text)
    with locked(tmp_path):
        pass
    assert not (tmp_path / LOCK).exists()


def test_an_owner_that_lost_its_lock_stops_before_it_writes(tmp_path):
    with locked(tmp_path):
        write(tmp_path)
        with pytest.raises(CheckpointError, match="taken over by ann@far"):
            lock.check(tmp_path)
    assert (tmp_path / LOCK).exists()  # it is the other one's


def test_a_folder_that_vanished_is_named(tmp_path):
    folder = tmp_path / "run"
    with locked(folder):
        (folder / LOCK).unlink()
        folder.rename(tmp_path / "away")
        with pytest.raises(CheckpointError, match="has vanished"):
            lock.check(folder)
    with pytest.raises(CheckpointError, match="has vanished"):
        with locked(folder):
            (folder / LOCK).unlink()
            folder.rmdir()
            (folder / "results.json").write_text("")


@pytest.mark.system
def test_only_one_of_many_trainers_takes_over_a_lock(tmp_path):
    write(tmp_path, machine=lock._machine(), pid=2**22 + 1)
    code = (
        "import sys, time; from negflax.train.workdir_lock import *\n"
        "with locked(sys.argv[1]): print('held', flush=True); sys.stdin.readline()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    started = [subprocess.Popen(command, **pipes) for _ in range(3)]
    lost = [one for one in started if one.stdout.readline() != b"held\n"]
    assert len(lost) == 2
    for one in started:
        one.communicate(b"\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path, number):
    with pytest.raises(CheckpointError, match="config.json cannot be written: .*start again"):
        with locked(tmp_path):
            raise OSError(number, os.strerror(number), str(tmp_path / "config.json"))
