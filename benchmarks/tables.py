"""The update of an item table: does its time know the catalogue's size, and what do others take?

  python -m benchmarks.tables --json=tables.json      # about 3 minutes and 16 GB of memory
  python -m benchmarks.tables --quick                 # fewer calls, peers at 10^6 rows alone

A step brings 32,768 ids of 24,576 distinct rows, as many at every V, and a gradient for each id.
An update merges what belongs to one row and moves that row: deduplication, merge and row update
stand in columns of their own as well, timed one by one. Ours are compared over V in turn, then with
the peers at each V; then whole training steps over V (B·T = S = 8,192). Medians of interleaved
calls, CPU seconds of the process beside wall time. What does not import or fit is null, with the
reason.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import app, flags

from benchmarks import table_peers as peers
from benchmarks.table_step import training_step
from launch import flags as shared
from negflax.evaluate import format_table
from negflax.files import write_json

QUICK = flags.DEFINE_boolean("quick", False, "A third of the calls, peers at 10^6 rows alone.")
REPEATS = flags.DEFINE_integer("repeats", 31, "Calls of each update; a third as many of steps.")

SIZES = (10**5, 10**6, 10**7)
IDS, DISTINCT, WIDTH = 32_768, 24_576, 64
MOST_BYTES = 12 * 2**30  # of the methods that are compared at a time
MOST_SECONDS, FEWEST = 4.0, 5  # of a method's calls; of calls all the same


def problem(num_rows: int) -> peers.Problem:
    """Distinct rows spread over the table, some of them asked for more than once, in any order."""
    rng = np.random.default_rng(0)
    rows = rng.choice(num_rows, DISTINCT, replace=False)
    ids = rng.permutation(np.concatenate([rows, rng.choice(rows, IDS - DISTINCT)]))
    return peers.Problem(
        num_rows, ids.astype(np.int32), rng.normal(size=(IDS, WIDTH)).astype(np.float32)
    )


def over_sizes(repeats: int) -> list[dict]:
    """Ours with the shipped optimizer, one row a V, all of them in turn."""
    built = {v: peers.METHODS[peers.OURS].build(problem(v)) for v in SIZES}
    calls = {(v, "update"): built[v].update for v in SIZES}
    calls |= {(v, part): call for v in SIZES for part, call in built[v].parts.items()}
    times = interleaved(calls, repeats)
    return [
        {"V": v, "update ms": times[v, "update"][0], "CPU ms": times[v, "update"][1]}
        | {f"{part} ms": times[v, part][0] for part in built[v].parts}
        | {"temp MB": built[v].temp_mb}
        for v in SIZES
    ]


def against_peers(num_rows: int, repeats: int) -> list[dict]:
    """One row a method at one V, as many as fit, in turn."""
    rows, calls, built, need = [], {}, {}, 0
    for name, method in peers.METHODS.items():
        row: dict[str, Any] = {"V": num_rows, "method": name}
        rows.append(row)
        need += (size := method.arrays * num_rows * WIDTH * 4)
        if need > MOST_BYTES:
            need -= size
            row["not run"] = f"needs {size / 2**30:.0f} GiB more"
            continue
        try:
            built[name] = method.build(problem(num_rows))
            calls[name] = built[name].update
        except Exception as error:  # a peer that is missing or broken is a row, not a crash
            row["not run"] = f"{type(error).__name__}: {str(error).splitlines()[0][:60]}"
    times = interleaved(calls, repeats)
    for row in rows:
        if (name := row["method"]) in times:
            row |= {"ms": times[name][0], "CPU ms": times[name][1], "temp MB": built[name].temp_mb}
    return rows


def steps_over_sizes(repeats: int) -> list[dict]:
    """Whole training steps, one row a V, in turn."""
    times = interleaved({v: training_step(v) for v in SIZES}, repeats)
    return [{"V": v, "step ms": ms, "CPU ms": cpu} for v, (ms, cpu) in times.items()]


def interleaved(
    calls: dict[Any, Callable[[], Any]], repeats: int
) -> dict[Any, tuple[float, float]]:
    """Median (wall, CPU) milliseconds; every round calls each once, in one order and then back."""
    samples: dict[Any, list[tuple[float, float]]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    most = {name: max(FEWEST, MOST_SECONDS / _timed(call)[0]) for name, call in calls.items()}
    for round_ in range(repeats):
        for name in list(calls)[:: -1 if round_ % 2 else 1]:
            if round_ < most[name]:
                samples[name].append(_timed(calls[name]))
    return {
        name: tuple(1e3 * statistics.median(column) for column in zip(*found, strict=True))
        for name, found in samples.items()
    }


def _timed(call: Callable[[], Any]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def figures(ours: list[dict], methods: list[dict], steps: list[dict]) -> dict[str, float | None]:
    """The named figures; null where a peer did not run."""
    update = {row["V"]: row["update ms"] for row in ours}
    step = {row["V"]: row["step ms"] for row in steps}
    at_1e6 = {row["method"]: row.get("ms") for row in methods if row["V"] == 10**6}
    torch = [ms for name, ms in at_1e6.items() if name.startswith(peers.TORCH) and ms]
    return {
        "update_time_ratio_1e7_vs_1e6": update[10**7] / update[10**6],
        "update_time_ratio_1e7_vs_1e5": update[10**7] / update[10**5],
        "update_temp_mb_1e7": ours[-1]["temp MB"],
        "speedup_vs_dense_adam_1e6": at_1e6[peers.DENSE_ADAM] / at_1e6[peers.OURS],
        "speedup_vs_torch_sparse_1e6": min(torch) / at_1e6[peers.OURS] if torch else None,
        "step_time_ratio_1e7_vs_1e5": step[10**7] / step[10**5],
    }


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    repeats = -(-REPEATS.value // 3) if QUICK.value else REPEATS.value

    def shown(rows: list[dict]) -> list[dict]:
        print(format_table(rows), flush=True)
        gc.collect()  # the tables of this part make room for the next
        return rows

    ours = shown(over_sizes(repeats))
    methods = []
    for num_rows in (10**6,) if QUICK.value else SIZES:
        methods += shown(against_peers(num_rows, repeats))
    steps = shown(steps_over_sizes(max(3, repeats // 3)))
    found = figures(ours, methods, steps)
    print(format_table([{"figure": k, "value": v} for k, v in found.items()]))
    print(f"{jax.devices()[0].device_kind}, {jax.device_count()} device(s), jax {jax.__version__}")
    if shared.JSON.value:
        write_json(shared.JSON.value, found | {"updates": ours, "methods": methods, "steps": steps})


if __name__ == "__main__":
    app.run(main)
