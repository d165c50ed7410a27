"""Ctrl-C is one line at any moment, in every program; of training see test_processes.py."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(
    path.stem
    for path in (ROOT / "launch").glob("*.py")
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)


def interrupted(command, after_s=0.0, ready=b""):
    """(code, stderr) of a program that gets SIGINT after some seconds, or once it is ready."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe)
    if ready:
        assert process.stdout.readline().strip() == ready
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    return process.returncode, told.decode()


@pytest.fixture(autouse=True)
def heard():
    """Programs that the tests start hear SIGINT, even if the tests run in the background.

    A shell starts those with the signal ignored, and so would be what they start.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("name", "package"), [("-m", "launch"), ("bin/negflax", "negflax.cli")])
def test_the_imports_of_a_program_are_interrupted_in_one_line(name, package):
    # Extension modules turn a KeyboardInterrupt into an ImportError, and go on: this does not.
    slow = f"""
import sys, time
sys.argv = [{name!r}]
import {package}
print("ready", flush=True)
try:
    time.sleep(60)
except BaseException:
    raise ImportError
"""
    code, told = interrupted([sys.executable, "-c", slow], ready=b"ready")
    assert code == -signal.SIGINT
    assert told == "interrupted: the same command starts again\n"


def test_a_library_changes_no_signals():
    code = "import signal, launch; print(signal.getsignal(2) is signal.default_int_handler)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "True"


@pytest.mark.system
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("after_s", [0.5, 1.5, 3.0])
def test_every_program_at_any_moment(program, after_s):
    config = f"--config={ROOT / 'configs' / 'synthetic.py'}"
    _, told = interrupted([sys.executable, "-m", f"launch.{program}", config], after_s)
    assert "Traceback" not in told, told
