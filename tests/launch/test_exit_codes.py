"""How every program ends: one process that forks for each case, as the imports take seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import hashlib, json, os, signal, sys, time
from launch import flags as shared
from negflax import preemption
from negflax.data import DataError
from negflax.preemption import Preempted

def loop(number, times):  # as a training loop does
    with preemption.unsaved():
        for step in range(10_000):
            if preemption.requested(step):
                raise Preempted(f"saved step {step}")
            time.sleep(0.005)
            if step == 5:
                for _ in range(times):
                    os.kill(os.getpid(), number)
                    time.sleep(0.05)

def failing(error):
    raise error

def waiting(seconds):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(seconds)

def compiling():  # does not come back from C, as a compiler
    os.kill(os.getpid(), signal.SIGTERM)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)

CASES = {
    "done": lambda: None,
    "user error": lambda: failing(DataError("a bad row")),
    "crash": lambda: failing(RuntimeError("a bug")),
    "preempted": lambda: failing(Preempted("saved step 3")),
    "SIGTERM": lambda: loop(signal.SIGTERM, 1),
    "SIGHUP": lambda: loop(signal.SIGHUP, 1),
    "Ctrl-C": lambda: loop(signal.SIGINT, 1),
    "Ctrl-C twice": lambda: loop(signal.SIGINT, 2),
    "preparing": lambda: waiting(60),
    "compiling": compiling,
}
found = {}
for name, case in CASES.items():
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(60)
        os.dup2(writes, 1), os.dup2(writes, 2)
        shared.run(lambda argv: case() and None)
    os.close(writes)
    told = b"".join(iter(lambda: os.read(reads, 4096), b"")).decode()
    found[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), told
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def ended():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("case", "code", "told"),
    [
        ("done", 0, ""),
        ("user error", 1, "DataError: a bad row\n"),
        ("preempted", 42, "preempted: saved step 3\n"),
        ("SIGTERM", 42, "preempted: saved step "),
        ("SIGHUP", 42, "preempted: saved step "),
        ("Ctrl-C", 42, "preempted: saved step "),
        ("Ctrl-C twice", 130, ""),
        ("preparing", 42, "preempted: there was nothing to save; repeat the command to continue\n"),
        ("compiling", 42, "preempted: there was nothing to save; repeat the command to continue\n"),
    ],
)
def test_codes(ended, case, code, told):
    assert ended[case][0] == code, ended[case]
    assert ended[case][1].startswith(told)
    assert "Traceback" not in ended[case][1]


def test_a_crash_shows_where(ended):
    assert ended["crash"][0] == 1
    assert "Traceback" in ended["crash"][1] and "RuntimeError: a bug" in ended["crash"][1]
