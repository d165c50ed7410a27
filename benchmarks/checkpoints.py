"""What checkpoints cost: time that training loses to a save, and the host's memory.

  python -m benchmarks.checkpoints --json=checkpoints.json     # 200,000 items, 97 MB of state
  python -m benchmarks.checkpoints --items=1000000

A table of untrained rows with the slots of lazy Adam is saved as a run saves it, with fingerprints.
`blocked_seconds` is the time for which training stands still; `cpu_seconds` are those of the whole
save, of all threads, until it is on the disk, which on a CPU are taken from training.
`checkpoint_overhead_share` is the larger of the two over a minute: an upper bound of what a run
loses that saves every minute (config.train.checkpoint_minutes = 1). `host_memory_of_state` is the
largest growth of this process's resident memory during a save, over the bytes of the state; on CPUs
the state itself lies in that memory too, and is not counted. The first save compiles, and is left
out but for its memory.
"""

from __future__ import annotations

import resource
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags

from negflax.config import BatchConfig, Config, LossConfig, ModelConfig, OptimizerConfig
from negflax.data import Batch, Catalogue
from negflax.evaluate import format_table
from negflax.files import write_json
from negflax.mesh import from_hosts, make_mesh
from negflax.model import Recommender
from negflax.train.checkpoint import Checkpoints
from negflax.train.fingerprint import Identity
from negflax.train.step import Trainer

ITEMS = flags.DEFINE_integer("items", 200_000, "Rows of the item table.")
WIDTH = flags.DEFINE_integer("width", 42, "Width of a row.")
SAVES = flags.DEFINE_integer("saves", 9, "Saves that are timed.")
JSON = flags.DEFINE_string("json", "", "Write the printed figures to this file.")


def trainer_of(items: int, width: int) -> tuple[Trainer, Any]:
    """A trainer with one large table, and a batch."""
    config = Config(
        batch=BatchConfig(rows=32, length=32),
        model=ModelConfig(hidden=32, embedding=width, features=("dislike",), item_bias=False),
        loss=LossConfig(candidates="uniform", num_candidates=512),
        optimizer=OptimizerConfig(tables="lazy_adam"),
    )
    zeros_V = np.zeros(items + 1, np.int32)
    catalogue = Catalogue(np.arange(items), zeros_V, zeros_V[:, None], zeros_V.astype(np.int64))
    mesh = make_mesh(config.mesh)
    model = Recommender(config.model, catalogue)
    rng = np.random.default_rng(0)
    shape = config.batch.rows, config.batch.length
    item_BT = rng.integers(1, items + 1, shape).astype(np.int32)
    zeros_BT = np.zeros(shape, np.int32)
    ones_BTL = np.ones((*shape, 1), np.float32)
    values = dict.fromkeys(Batch._fields, zeros_BT) | {
        "item_ids_BT": item_BT,
        "reset_BT": np.zeros(shape, bool),
        "label_ids_BTL": np.roll(item_BT, -1, axis=1)[:, :, None],
        "positive_weight_BTL": ones_BTL,
        "negative_weight_BTL": 0 * ones_BTL,
        "request_BTR": None,
    }
    trainer = Trainer(config, model, catalogue.train_count_V, 10**6, mesh)
    return trainer, from_hosts(mesh, Batch(**values))


class Peak:
    """Largest resident memory of this process above what it was, looked at every 2 ms."""

    def __enter__(self) -> Peak:
        self._before, self.growth, self._ended = resident(), 0, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._ended.wait(0.002):
            self.growth = max(self.growth, resident() - self._before)

    def __exit__(self, *_: Any) -> None:
        self._ended.set()
        self._thread.join()


def resident() -> int:
    """Bytes of this process in memory; Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def run(folder: Path) -> dict[str, Any]:
    trainer, batch = trainer_of(ITEMS.value, WIDTH.value)
    state = trainer.init()
    size = sum(x.nbytes for x in jax.tree.leaves(state))
    num_rows = {name: spec.num_rows for name, spec in trainer.model.tables.items()}
    checkpoints = Checkpoints(
        folder, "none", keep_latest=1, identity=Identity(trainer.model.vocabulary, num_rows)
    )
    blocked, wall, cpu, growth = [], [], [], []
    for _ in range(SAVES.value + 1):  # the first one compiles
        state, metrics = trainer.step(state, batch)
        jax.block_until_ready((state, metrics))
        with Peak() as peak:
            began = time.perf_counter(), time.process_time()
            checkpoints.save(int(state["step"]), state, None)
            blocked.append(time.perf_counter() - began[0])
            checkpoints.wait()
            wall.append(time.perf_counter() - began[0])
            cpu.append(time.process_time() - began[1])
        growth.append(peak.growth / size)
    checkpoints.close()
    cost = max(median(blocked), median(cpu))
    return {
        "state_mb": size / 2**20,
        "saves": SAVES.value,
        "blocked_seconds": median(blocked),
        "blocked_seconds_max": max(blocked[1:]),
        "written_seconds": median(wall),
        "cpu_seconds": median(cpu),
        "checkpoint_overhead_share": cost / 60,
        "host_memory_of_state": max(growth[1:]),
        "host_memory_of_state_first": growth[0],
    }


def median(values: list[float]) -> float:
    """Of all but the first."""
    return float(np.median(values[1:]))


def main(argv: list[str]) -> None:
    del argv
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder))
    print(format_table([{"figure": name, "value": value} for name, value in found.items()]))
    print(f"{jax.devices()[0].device_kind}, {jax.device_count()} device(s), jax {jax.__version__}")
    if JSON.value:
        write_json(JSON.value, found)


if __name__ == "__main__":
    app.run(main)
