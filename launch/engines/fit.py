"""Checks with the planner that a job fits into its devices, before anything is submitted."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from negflax.config import ConfigError

from .job import Job

PLANNER = f"{__package__.rpartition('.')[0]}.plan"

# A word in the accelerator's name → memory of one device, GiB, by the makers' data sheets.
MEMORY_GIB = {
    "h200": 141,
    "h100": 80,
    "a100-80gb": 80,
    "a100": 40,
    "l4": 24,
    "t4": 16,
    "v6e": 32,
    "v5p": 95,
    "v5litepod": 16,
    "v5-lite": 16,
    "v4": 32,
    "v3": 16,
}


def memory_gib(job: Job) -> float:
    """Returns the memory of one of the job's devices; 0 if the name is unknown."""
    name = job.device.lower()
    return next((size for word, size in MEMORY_GIB.items() if word in name), 0)


def config_arguments(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments that set the config, each as one word."""
    found, rest = [], iter(arguments)
    for word in rest:
        if word.removeprefix("-").removeprefix("-").split("=")[0].split(".")[0] == "config":
            found.append(word if "=" in word else f"{word}={next(rest, '')}")
    return found


def check_fit(job: Job, limit_gib: float, extra: Mapping[str, int]) -> str:
    """Runs the planner, and returns a line that says how much of a device the run needs.

    Args:
      job: with the config among its arguments.
      limit_gib: memory of a device.
      extra: further flags of launch.plan, as items.

    Raises:
      ConfigError: it does not fit; the message names the keys to change. Or the planner failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        command = [sys.executable, "-m", PLANNER, *config_arguments(job.arguments)]
        command += [f"--devices={job.devices}", f"--memory_gib={limit_gib:g}", f"--json={path}"]
        command += [f"--{name}={value}" for name, value in extra.items() if value]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise ConfigError(
                f"the planner failed: {reason}. If the data is not on this machine, give --items; "
                "--noplan submits without a plan"
            )
        plan = json.loads(path.read_text())
    if not plan["fits"]:
        advice = "; ".join(f"{part}: {keys}" for part, keys in plan["advice"].items())
        raise ConfigError(f"the run does not fit into {limit_gib:g} GiB per device: {advice}")
    return f"{plan['peak'] / 2**30:.2f} of {limit_gib:g} GiB a device, by the planner"
