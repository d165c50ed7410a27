"""Ranks, probabilities and lists of a model over a catalogue too large for users × items.

  python -m benchmarks.ranking --json=ranking.json      # untrained, 64 users × 10 M items, D = 32
  JAX_NUM_CPU_DEVICES=8 python -m benchmarks.ranking    # the table on 8 devices, and on 1
  python -m benchmarks.ranking --quick                  # 100,000 items

Times one block of queries through all that the metrics of `launch.evaluate` need of a scorer, seen
items masked and kept, lists of 20. `temp_mb` is the temporary memory and the result of the compiled
program that scores a chunk; `scores_mb` what an array of users × items would take. On several
devices the same table is ranked on one of them too: `same_places` is the share of judged items that
stand at the same place, `same_lists` that of equal lists, `largest_log_p` the largest difference of
log p.
"""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np
from absl import app, flags

from launch import flags as shared
from negflax.config import MeshConfig, ModelConfig
from negflax.data import Catalogue, Sequences
from negflax.evaluate import Ranks, build_queries, format_table, protocol
from negflax.evaluate.ranking import rank_scorers
from negflax.evaluate.scorer import column_function, model_scorer
from negflax.files import write_json
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.tables import init_rows

QUICK = flags.DEFINE_boolean("quick", False, "100,000 items.")
ROWS = flags.DEFINE_integer("rows", 10_000_000, "Items.")
USERS = flags.DEFINE_integer("users", 64, "Users, one block.")
WIDTH = flags.DEFINE_integer("width", 32, "Width of a row, D.")
EVENTS, TEST = 30, 6  # of a user; the last of them are judged
LIST = 20


def sequences_of(users: int, items: int) -> Sequences:
    """Users who saw random items, half of them liked."""
    rng = np.random.default_rng(0)
    events = users * EVENTS
    blank_E, blank_V = np.zeros(events, np.uint8), np.zeros(items + 1, np.int64)
    liked_E = rng.random(events) < 0.5
    return Sequences(
        catalogue=Catalogue(np.arange(items), blank_V.astype(np.int32), blank_V[:, None], blank_V),
        user_ids=np.arange(users),
        offsets_U1=np.arange(users + 1) * EVENTS,
        item_E=rng.integers(1, items + 1, events).astype(np.int32),
        **dict.fromkeys(("dislike_E", "dwell_E", "watch_ratio_E", "gap_E", "surface_E"), blank_E),
        time_E=np.arange(events),
        positive_weight_E=liked_E.astype(np.float32),
        negative_weight_E=(~liked_E).astype(np.float32),
        split_E=np.tile(np.repeat(np.array([0, 2], np.uint8), (EVENTS - TEST, TEST)), users),
        report={},
    )


def temporary_mb(model: Recommender, mesh: Any, rows: jax.Array, users: int) -> float:
    """Of the program that scores a chunk."""
    chunk = min(protocol.SCORES_ALIVE // users, model.num_rows - 1)
    states = jax.ShapeDtypeStruct((-(-users // mesh.size) * mesh.size, WIDTH.value), np.float32)
    shapes = states, jax.ShapeDtypeStruct(rows.shape, rows.dtype), np.int32(1)
    found = column_function(model, mesh, chunk).lower(*shapes).compile().memory_analysis()
    return (found.temp_size_in_bytes + found.output_size_in_bytes) / 2**20


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    items, users = (100_000 if QUICK.value else ROWS.value), USERS.value
    sequences = sequences_of(users, items)
    config = ModelConfig(hidden=32, embedding=WIDTH.value, features=("dislike",))
    model = Recommender(config, sequences.catalogue)
    dense = model.init_dense(jax.random.key(0))
    queries = build_queries(sequences, "test")
    found: dict[str, Any] = {"users": users, "items": items, "width": WIDTH.value}
    found["scores_mb"] = users * items * 4 / 2**20
    ranks: dict[int, Ranks] = {}
    for devices in sorted({jax.device_count(), 1}, reverse=True):
        mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
        rows = init_rows(jax.random.key(1), model.tables[model.output_table], mesh, "float32")
        state = {"dense": dense, "tables": {model.output_table: {"rows": rows}}}
        scorers = {"model": model_scorer(model, state, sequences, mesh, EVENTS)}
        before = time.perf_counter()
        one = rank_scorers(scorers, queries, sequences, (True, False), users, LIST)
        suffix = f"_{devices}_devices" if devices > 1 else ""
        found[f"seconds{suffix}"] = time.perf_counter() - before
        found[f"temp_mb{suffix}"] = temporary_mb(model, mesh, rows, users)
        ranks[devices] = one[True, "model"]
    if jax.device_count() > 1:
        many, single = ranks[jax.device_count()], ranks[1]
        found["same_places"] = float((many.greater_J == single.greater_J).mean())
        found["same_lists"] = float((many.list_RK == single.list_RK).all(axis=1).mean())
        found["largest_log_p"] = float(np.abs(many.log_p_J - single.log_p_J).max())
    print(format_table([{"figure": name, "value": value} for name, value in found.items()]))
    print(f"{jax.devices()[0].device_kind}, {jax.device_count()} device(s), jax {jax.__version__}")
    if shared.JSON.value:
        write_json(shared.JSON.value, found)


if __name__ == "__main__":
    app.run(main)
