"""What a calibration adds to the cost of lists: corrections tile by tile, or one-hot columns.

  python -m benchmarks.calibration --json=calibration.json
  python -m benchmarks.calibration --rows=5000 --clusters=40 --creators=800

A block of users is searched without a calibration, with corrections by cluster, and by cluster and
creator, and, as another way to the same lists, with one-hot columns of the clusters behind the item
vectors and the corrections behind the states. All take turns; seconds are medians of CPU time.
`same_lists` is the share of users for whom the two ways give equal lists.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import jax
import numpy as np
from absl import app, flags

from launch import flags as shared
from negflax.calibration import Shift
from negflax.config import MeshConfig
from negflax.evaluate import format_table
from negflax.files import write_json
from negflax.mesh import make_mesh, split
from negflax.serve.topk import top_k_function

ROWS = flags.DEFINE_integer("rows", 200_000, "Rows of the table, V.")
USERS = flags.DEFINE_integer("users", 256, "Users scored at a time.")
WIDTH = flags.DEFINE_integer("width", 64, "Width of a row, D.")
CLUSTERS = flags.DEFINE_integer("clusters", 64, "Clusters.")
CREATORS = flags.DEFINE_integer("creators", 4_000, "Creators.")
SEEN = flags.DEFINE_integer("seen", 20, "Excluded items a user.")
ROUNDS = flags.DEFINE_integer("rounds", 9, "Timings of each.")
K = flags.DEFINE_integer("k", 100, "List length.")
MET = 20  # kinds of a user's history


def cpu_seconds(calls: dict[str, Any], rounds: int) -> dict[str, float]:
    """Median CPU seconds; every round calls each once."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            before = time.process_time()
            jax.block_until_ready(call())
            if turn:  # the first compiles
                times[name].append(time.process_time() - before)
    return {name: statistics.median(values) for name, values in times.items()}


def shift_of(kinds: int, users: int, rng: np.random.Generator) -> Shift:
    """Corrections of MET kinds for each user."""
    slots = max(64, 1 << (kinds - 1).bit_length())
    bias_GR = np.zeros((slots, users), np.float32)
    for user in range(users):
        bias_GR[rng.integers(1, kinds, MET), user] = rng.normal(size=MET)
    return Shift(np.arange(kinds, dtype=np.int32), bias_GR)


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    rng, users, rows, k = np.random.default_rng(0), USERS.value, ROWS.value, K.value
    mesh = make_mesh(MeshConfig())
    padded = -(-rows // mesh.size) * mesh.size

    def on_mesh(array: np.ndarray) -> jax.Array:
        return jax.device_put(array, split(mesh))

    table = rng.normal(size=(padded, WIDTH.value)).astype(np.float32)
    states = rng.normal(size=(users, WIDTH.value)).astype(np.float32)
    seen = rng.integers(1, rows, (users, SEEN.value)).astype(np.int32)
    kinds = {"cluster": CLUSTERS.value, "creator": CREATORS.value}
    of_rows = {name: rng.integers(1, n, padded).astype(np.int32) for name, n in kinds.items()}
    shifts = {name: shift_of(n, users, rng) for name, n in kinds.items()}
    by_kind = [(on_mesh(of_rows[name]), shifts[name]) for name in kinds]
    one_hot = np.zeros((padded, CLUSTERS.value), np.float32)
    one_hot[np.arange(padded), of_rows["cluster"]] = 1
    plain, wide = on_mesh(table), on_mesh(np.hstack([table, one_hot]))
    wide_states = np.hstack([states, shifts["cluster"].bias_GR[: CLUSTERS.value].T])
    alone = top_k_function(mesh, rows, k)
    one, two = (top_k_function(mesh, rows, k, kinds=n) for n in (1, 2))
    calls = {
        "no calibration": lambda: alone(states, plain, seen),
        "by cluster, tile by tile": lambda: one(states, plain, seen, (by_kind[0],)),
        "by cluster and creator, tile by tile": lambda: two(states, plain, seen, tuple(by_kind)),
        "by cluster, one-hot columns": lambda: alone(wide_states, wide, seen),
    }
    seconds = cpu_seconds(calls, ROUNDS.value)
    tiles, columns = (
        np.asarray(calls[f"by cluster, {how}"]()[0]) for how in ("tile by tile", "one-hot columns")
    )
    base = seconds["no calibration"]
    table_rows = [
        {"search": name, "cpu_seconds": s, "ratio": s / base} for name, s in seconds.items()
    ]
    print(format_table(table_rows))
    found = {
        "rows": rows,
        "users": users,
        "width": WIDTH.value,
        "k": k,
        "clusters": CLUSTERS.value,
        "creators": CREATORS.value,
        "devices": mesh.size,
        "same_lists": float((tiles == columns).all(axis=1).mean()),
    }
    print(format_table([{"figure": name, "value": value} for name, value in found.items()]))
    if shared.JSON.value:
        write_json(shared.JSON.value, found | {"searches": table_rows})


if __name__ == "__main__":
    app.run(main)
