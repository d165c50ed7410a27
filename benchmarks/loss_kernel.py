"""The loss and its gradients: time and memory of ours against what else there is.

  python -m benchmarks.loss_kernel --json=loss_kernel.json      # the grid, 15 minutes
  python -m benchmarks.loss_kernel --quick                      # one cell, about 2 minutes

Ours computes both terms, r·(−log p) and w·(−log(1 − p)), and in another row the positive one
alone; peers compute only −log p, but for `naive`, the separate logarithms of p and 1 − p. All run
in one process, one call of each in turn; medians. Peers that do not import are null, with the
reason. On a GPU, Cut Cross-Entropy and Liger run where they install; the ceiling there, jax's
attention kernel, is in benchmarks/gpu_check.py.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import app, flags

from benchmarks import loss_peers as peers
from launch import flags as shared
from negflax.evaluate import format_table
from negflax.files import write_json

QUICK = flags.DEFINE_boolean("quick", False, "Only N = S = 8,192, D = 64.")
REPEATS = flags.DEFINE_integer("repeats", 7, "Calls of each; at most 60 s a cell.")

GRID_SECONDS = 840.0  # after which the cells that are left are not run
GRID = {"N": (2048, 8192, 32768), "S": (1024, 8192, 65536, 100_000, 1_000_000), "D": (64, 128, 256)}
HEADLINE = (8192, 8192, 64)  # the cell of the named figures
MOST_BYTES = 4 * 2**30  # of the (N, S) arrays that a peer keeps
MOST_SECONDS = 20.0  # a call, by the rate of the cells before
CELL_SECONDS = 10.0  # of rounds, forward and backward; each method has one round at least
LONG_SECONDS = 1.0  # calls longer than that need no other one before them
CHECKED_STATES = 64  # whose gradient is compared with float64


def problem(n: int, s: int, d: int) -> peers.Problem:
    """Random states and candidates, one label a state: 60 % positive, the others negative."""
    rng = np.random.default_rng(0)
    positive = (rng.random((n, 1)) < 0.6).astype(np.float32)
    return peers.Problem(
        states_ND=rng.normal(size=(n, d)).astype(np.float32),
        candidates_SD=(rng.normal(size=(s, d)) / math.sqrt(d)).astype(np.float32),
        label_N1=rng.integers(0, s, (n, 1)).astype(np.int32),
        r_N1=positive,
        w_N1=30 * (1 - positive),
    )


def exact_gradient(p: peers.Problem, both_terms: bool) -> np.ndarray:
    """∂/∂states of the first states in float64 NumPy."""
    states, c = p.states_ND[:CHECKED_STATES].astype(np.float64), p.candidates_SD.astype(np.float64)
    label, rows = p.label_N1[: len(states), 0], np.arange(len(states))
    z = states @ c.T
    softmax = np.exp(z - z.max(1, keepdims=True))
    softmax /= softmax.sum(1, keepdims=True)
    py = softmax[rows, label]
    r = p.r_N1[: len(states), 0] if both_terms else np.ones(len(states))
    w = p.w_N1[: len(states), 0] if both_terms else np.zeros(len(states))
    # dL/dz_y = −r(1 − p) + w p, dL/dz_j = −dL/dz_y · π_j with π the softmax over the others.
    pull = -r * (1 - py) + w * py
    d_z = -pull[:, None] * softmax / (1 - py)[:, None]
    d_z[rows, label] = pull
    return d_z @ c


def measure(n: int, s: int, d: int, seconds_per_operation: dict[str, float]) -> list[dict]:
    """One row a method, forward + backward and forward alone."""
    p, rows, calls = problem(n, s, d), [], {}
    operations = 6 * n * s * d
    for name, method in peers.METHODS.items():
        row = {"N": n, "S": s, "D": d, "method": name}
        rows.append(row)
        need = method.arrays * 4 * n * s
        expected = seconds_per_operation.get(name, 5e-11) * operations
        if need > MOST_BYTES:
            row["not run"] = f"needs {need / 2**30:.0f} GiB"
        elif expected > MOST_SECONDS:
            row["not run"] = f"needs about {expected:.0f} s a call"
        else:
            try:
                calls[name] = method.build(p)
            except Exception as error:  # a peer that is missing or broken is a row, not a crash
                row["not run"] = f"{type(error).__name__}: {str(error).splitlines()[0][:60]}"
    longest = max([seconds_per_operation.get(name, 0) * operations for name in calls], default=0)
    first = longest < LONG_SECONDS
    times = _interleaved({name: call.both for name, call in calls.items()}, first)
    forward = _interleaved({name: call.forward for name, call in calls.items()}, first)
    for row in rows:
        if (name := row["method"]) in calls:
            seconds_per_operation[name] = times[name] / operations
            gradient = np.asarray(calls[name].state_gradient(), np.float64)[:CHECKED_STATES]
            exact = exact_gradient(p, peers.METHODS[name].both_terms)
            row |= {
                "ms": 1e3 * times[name],
                "forward ms": 1e3 * forward[name],
                "6NSD GFLOP/s": operations / times[name] / 1e9,
                "temp MB": calls[name].temp_mb,
                "error": float(np.abs(gradient - exact).max() / np.abs(exact).max()),
            }
    return rows


def _interleaved(calls: dict[str, Callable[[], Any]], first: bool) -> dict[str, float]:
    """Median seconds; every round calls each once, so that all see the same machine."""
    for call in calls.values() if first else ():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    for round_ in range(REPEATS.value):
        if round_ and time.perf_counter() - start > (60.0 if QUICK.value else CELL_SECONDS):
            break
        for name, call in calls.items():
            before = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - before)
    return {name: statistics.median(values) for name, values in times.items()}


def figures(rows: list[dict]) -> dict[str, float | None]:
    """The named figures, from the headline cell; null where a peer did not run."""
    cell = {r["method"]: r for r in rows if (r["N"], r["S"], r["D"]) == HEADLINE}
    ours, torch = cell[peers.OURS], tuple(name for name in cell if name.startswith("torch"))

    def speedup(names: tuple[str, ...]) -> float | None:
        found = [cell[name]["ms"] for name in names if "ms" in cell[name]]
        return min(found) / ours["ms"] if found else None

    return {
        "speedup_vs_naive": speedup(("naive",)),
        "temp_ratio_vs_naive": cell["naive"]["temp MB"] / ours["temp MB"],
        "speedup_vs_optax": speedup(("optax",)),
        "speedup_vs_tokamax": speedup(("tokamax xla", "tokamax chunked")),
        "speedup_vs_torch": speedup(torch),
    }


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    cells = [HEADLINE]
    if not QUICK.value:  # the small ones first, so that the clock leaves out the longest
        others = {(n, s, d) for d in GRID["D"] for s in GRID["S"] for n in GRID["N"]} - {HEADLINE}
        cells += sorted(others, key=math.prod)
    rows, pace, start = [], {}, time.perf_counter()
    for cell in cells:
        if time.perf_counter() - start < GRID_SECONDS:
            rows += measure(*cell, pace)
            print(format_table(rows[-len(peers.METHODS) :]), flush=True)
        else:
            n, s, d = cell
            rows.append({"N": n, "S": s, "D": d, "method": "all", "not run": "the time is over"})
            print(format_table(rows[-1:]), flush=True)
    found = figures(rows)
    print(format_table([{"figure": k, "value": v} for k, v in found.items()]))
    print(f"{jax.devices()[0].device_kind}, {jax.device_count()} device(s), jax {jax.__version__}")
    if shared.JSON.value:
        write_json(shared.JSON.value, found | {"rows": rows})


if __name__ == "__main__":
    app.run(main)
