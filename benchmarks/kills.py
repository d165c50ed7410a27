"""Kills a training run at random moments, restarts it, and compares it with one left alone.

  python -m benchmarks.kills --kills=20 --json=kills.json

A run on the embedded platform, with its own cache of compiled programs, validations and many
checkpoints, is sent SIGKILL at moments drawn evenly from its whole life: imports, data, the first
compilation, steps, validations, checkpoints half written, the end. The same command goes on, until
the run has ended; then another one begins, until there were so many kills. A kill is survived if
the run that it hit ended with the state of the undisturbed one bit for bit, its best step included.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import app, flags

from negflax.evaluate import format_table
from negflax.files import write_json
from negflax.train.goodput_log import account

KILLS = flags.DEFINE_integer("kills", 20, "How many.")
SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")
JSON = flags.DEFINE_string("json", "", "Write the printed figures to this file.")

STEPS = 200
SETTINGS = {
    "world.num_users": 300,
    "world.num_items": 60,
    "world.num_creators": 10,
    "world.num_clusters": 4,
    "world.steps": 20,
    "train.steps": STEPS,
    "train.refit": False,
    "train.eval_every": 100,
    "train.checkpoint_every": 10,
    "batch.rows": 4,
    "loss.positives_only_steps": 50,
    "loss.ramp_steps": 50,
}


def command(workdir: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "launch.train",
        "--config=configs/synthetic.py",
        "--notest",
        f"--workdir={workdir}",
        *[f"--config.{key}={value}" for key, value in SETTINGS.items()],
    ]


def train(workdir: Path, kill_after: float | None = None) -> tuple[int, float]:
    """(exit code, seconds) of a start; -9 is killed."""
    began = time.monotonic()
    with open(workdir.with_suffix(".log"), "ab") as log:
        process = subprocess.Popen(command(workdir), stdout=log, stderr=log)
        try:
            process.wait(kill_after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    return process.returncode, time.monotonic() - began


def end(workdir: Path) -> tuple[dict[str, Any], Any]:
    """(done.json, whole state of the last step)."""
    done = json.loads((workdir / "done.json").read_text())
    state = ocp.PyTreeCheckpointer().restore(workdir / "checkpoints" / str(STEPS) / "state")
    return done, jax.device_get(state)


def same(a: tuple[dict[str, Any], Any], b: tuple[dict[str, Any], Any]) -> bool:
    equal = jax.tree.map(lambda x, y: x.tobytes() == y.tobytes(), *_arrays(a, b))
    return a[0] == b[0] and all(jax.tree.leaves(equal))


def _arrays(a: tuple, b: tuple) -> tuple[Any, Any]:
    return tuple(jax.tree.map(np.asarray, one[1]) for one in (a, b))


def run(kills: int, seed: int, folder: Path) -> dict[str, Any]:
    draw = random.Random(seed)
    whole, disturbed = folder / "whole", folder / "disturbed"
    code, seconds = train(whole)
    if code:
        sys.exit((whole.with_suffix(".log")).read_text()[-3000:])
    expected = end(whole)
    tried = survived = in_this_run = runs = 0
    lost = 0.0
    while tried < kills or in_this_run:
        code, _ = train(disturbed, draw.uniform(0, seconds) if tried < kills else None)
        if code == -signal.SIGKILL:
            tried, in_this_run = tried + 1, in_this_run + 1
            print(f"kill {tried} of {kills}", flush=True)
            continue
        runs += 1
        equal = code == 0 and same(end(disturbed), expected)
        survived += in_this_run * equal
        print(f"run {runs}: {in_this_run} kills, exit {code}, {'equal' if equal else 'NOT EQUAL'}")
        if not equal:
            print(disturbed.with_suffix(".log").read_text()[-3000:])
        lost += account(disturbed).seconds.get("lost", 0.0)
        in_this_run = 0
        shutil.rmtree(disturbed)
    return {
        "kills_tried": tried,
        "kills_survived": survived,
        "runs": runs,
        "undisturbed_seconds": seconds,
        "lost_seconds": lost,
    }


def main(argv: list[str]) -> None:
    del argv
    with tempfile.TemporaryDirectory() as folder:
        found = run(KILLS.value, SEED.value, Path(folder))
    print(format_table([{"figure": name, "value": value} for name, value in found.items()]))
    print(f"{os.cpu_count()} CPU cores, jax {jax.__version__}")
    if JSON.value:
        write_json(JSON.value, found)


if __name__ == "__main__":
    app.run(main)
