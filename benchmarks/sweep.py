"""Eight settings as one population, beside eight runs in turn.

  python -m benchmarks.sweep --json=sweep.json
  python -m benchmarks.sweep --quick

Two figures:

- `population_speedup_end_to_end_8`: eight small runs by `launch.train` in processes of their own,
  one after the other, over `launch.sweep --mode=population` with the same eight settings, from
  start to evaluated end; CPU seconds of the processes, wall seconds beside.
- `population_step_ratio_8`: eight times the step of one run over the population's step, at the size
  of configs/kuairand.py; 1 is ideal. Rounds of both are interleaved; CPU seconds, wall beside.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from absl import app, flags

from configs import kuairand
from negflax import mesh as meshes
from negflax.config import Config, from_config_dict
from negflax.data import StreamBatches, open_sequences
from negflax.files import write_json
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.train.members import MemberTrainer, group_mesh, member_mesh
from negflax.train.step import Trainer
from negflax.train.weights import loss_weights

JSON = flags.DEFINE_string("json", "", "Write the figures to this file.")
QUICK = flags.DEFINE_boolean("quick", False, "Two members, few steps, no processes.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Interleaved rounds of steps; medians are reported.")

SMALL = {
    "world.num_users": 400,
    "world.num_items": 300,
    "world.steps": 60,
    "batch.rows": 8,
    "batch.length": 25,
    "model.hidden": 32,
    "model.embedding": 32,
    "loss.weight_policy": "constant",
    "loss.exclude_seen": False,
    "loss.positives_only_steps": 20,
    "loss.ramp_steps": 10,
    "train.steps": 200,
    "train.eval_every": 100,
    "train.checkpoint_every": 100,
    "eval.bootstrap": 100,
}
WEIGHTS = (1, 3, 10, 30, 100, 300, 1000, 3000)


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """(CPU of this process and its children, wall) seconds of a call."""

    def cpu() -> float:
        both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(use.ru_utime + use.ru_stime for use in both)

    before = cpu(), time.perf_counter()
    work()
    return cpu() - before[0], time.perf_counter() - before[1]


def end_to_end() -> dict[str, float]:
    """Eight processes in turn and one population, each from nothing."""
    common = ["--config=configs/synthetic.py", *(f"--config.{k}={v}" for k, v in SMALL.items())]
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}

    def run(program: str, workdir: Path, *more: str) -> None:
        command = [sys.executable, "-m", program, *common, f"--workdir={workdir}", *more]
        subprocess.run(
            command,
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder)
        grid = f"--w_grid={','.join(map(str, WEIGHTS))}"
        together = seconds(lambda: run("launch.sweep", workdir / "population", grid))
        alone = [
            seconds(lambda w=w: run("launch.train", workdir / f"w={w}", f"--config.loss.w={w}"))
            for w in WEIGHTS
        ]
    cpu, wall = (sum(one) for one in zip(*alone, strict=True))
    return {
        "alone_cpu_seconds": cpu,
        "alone_wall_seconds": wall,
        "population_cpu_seconds": together[0],
        "population_wall_seconds": together[1],
        "population_speedup_end_to_end_8": cpu / together[0],
        "population_speedup_end_to_end_8_wall": wall / together[1],
    }


def step_ratio(config: Config, members: int, rounds: int, steps: int) -> dict[str, float]:
    """Steps of the population beside those of its members, on real batches."""
    with tempfile.TemporaryDirectory() as folder:
        sequences = open_sequences(config, folder)
        mesh = member_mesh(make_mesh(config.mesh), members)
        model = Recommender(config.model, sequences.catalogue)
        counts = sequences.catalogue.train_count_V
        trainer = Trainer(config, model, counts, 1000, group_mesh(mesh))
        weights = [
            loss_weights(
                dataclasses.replace(config.loss, omega=0.1 * (i + 1)),
                config.model.dtype,
                model.num_rows,
            )
            for i in range(members)
        ]
        population = MemberTrainer(trainer, mesh, weights)
        stream = StreamBatches(sequences, config.batch, config.labels, config.train.splits)
        batches = [jax.device_put(stream.batch(i), meshes.split(mesh)) for i in range(steps)]
        states = {
            "population": population.stack([trainer.init()] * members),
            "alone": trainer.init(),
        }
        times: dict[str, list[tuple[float, float]]] = {"population": [], "alone": []}

        def go(name: str, step: Callable, repeats: int) -> None:
            for _ in range(repeats):
                for batch in batches:
                    states[name], _ = step(states[name], batch)
            jax.block_until_ready(states[name])

        for round_ in range(rounds + 1):  # the first one compiles
            for name, step, repeats in (
                ("population", population.step, 1),
                ("alone", trainer.step, members),
            ):
                found = seconds(lambda n=name, s=step, r=repeats: go(n, s, r))
                if round_:
                    times[name].append(found)
    cpu, wall = (
        np.median(np.array(times["alone"])[:, i] / np.array(times["population"])[:, i])
        for i in range(2)
    )
    return {
        f"population_step_ratio_{members}": float(cpu),
        f"population_step_ratio_{members}_wall": float(wall),
        "population_step_cpu_ms": 1e3
        * float(np.median([x[0] for x in times["population"]]))
        / steps,
    }


def tell(figures: dict[str, float]) -> None:
    """One line each."""
    for name, value in figures.items():
        print(f"{name:40s} {value:.3f}", flush=True)


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    config = from_config_dict(kuairand.get_config())
    if QUICK.value:
        small = {"num_users": 100, "num_items": 100, "steps": 30}
        config = Config(world=dataclasses.replace(Config().world, **small))
        figures = step_ratio(config, 2, 1, 2)
    else:
        figures = step_ratio(config, 8, ROUNDS.value, 4)
    tell(figures)
    if not QUICK.value:
        tell(more := end_to_end())
        figures |= more
    if JSON.value:
        write_json(JSON.value, figures)


if __name__ == "__main__":
    app.run(main)
