"""The loss under the machine's roofs: peak of a matrix product, and memory bandwidth.

  python -m benchmarks.loss_kernel --json=loss_kernel.json
  python -m benchmarks.loss_roofline --measured=loss_kernel.json --plot=docs/roofline.svg

The roofs are measured now, the points are read from the benchmark's rows. A point's intensity is
6·N·S·D operations over the bytes its method moves between cache and memory by the count below:
naive code passes over N × S arrays, ours over the candidates and their gradient, once a block.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
from absl import app, flags

from launch import flags as shared
from negflax.evaluate import format_table
from negflax.files import write_json
from negflax.loss.kernels import xla

MEASURED = flags.DEFINE_string("measured", None, "The JSON of benchmarks.loss_kernel.")
PLOT = flags.DEFINE_string("plot", None, "Where to draw the roofline (.svg or .png).")

# Reads and writes of a float32 (N, S) array: logits written, read for the maximum and for the sum,
# their gradient written and read by two products; naive writes p and log(1 − p) besides.
PASSES = {"naive": 9, "margin, autodiff": 7, "optax": 6}


def moved_bytes(method: str, n: int, s: int, d: int) -> float | None:
    """Bytes between cache and memory, by count; None for methods that are not ours to count."""
    if method in PASSES:
        return 4.0 * PASSES[method] * n * s
    if method == "ours":
        blocks = -(-n // xla.state_tile(n, s, 8_000_000))
        # A block reads the candidates for logits and ∂states, reads and writes ∂candidates.
        return 4.0 * s * d * 4 * blocks
    return None


def seconds(call: Callable[[], Any]) -> float:
    """Median of 7 calls after a first one."""
    jax.block_until_ready(call())
    times = []
    for _ in range(7):
        before = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - before)
    return statistics.median(times)


def roofs() -> dict[str, float]:
    """Operations a second of a square product, bytes a second of a pass over 512 MB."""
    square, long = jnp.ones((4096, 4096)), jnp.ones(2**27)
    product, add = jax.jit(jnp.dot), jax.jit(lambda x: x + 1)
    return {
        "GFLOP/s": 2 * 4096**3 / seconds(lambda: product(square, square)) / 1e9,
        "GB/s": 2 * long.nbytes / seconds(lambda: add(long)) / 1e9,
    }


def points(rows: list[dict]) -> list[dict]:
    """Intensity and rate of each measured row whose traffic is counted."""
    found = []
    for row in rows:
        moved = moved_bytes(row["method"], row["N"], row["S"], row["D"])
        if moved and "ms" in row:
            operations = 6 * row["N"] * row["S"] * row["D"]
            found.append(
                {key: row[key] for key in ("method", "N", "S", "D")}
                | {"FLOP/byte": operations / moved, "GFLOP/s": row["6NSD GFLOP/s"]}
            )
    return found


def draw(roof: dict[str, float], found: list[dict], path: str) -> None:
    """The roofline as a plot."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    intensity = [2**k for k in range(0, 10)]
    top = [min(roof["GFLOP/s"], roof["GB/s"] * x) for x in intensity]
    axes.loglog(intensity, top, color="0.4", label="roof, float32")
    for method in dict.fromkeys(one["method"] for one in found):
        own = [one for one in found if one["method"] == method]
        axes.loglog(
            [one["FLOP/byte"] for one in own],
            [one["GFLOP/s"] for one in own],
            "o",
            ms=5,
            alpha=0.7,
            label=method,
        )
    axes.set_xlabel("operations / byte moved (counted)")
    axes.set_ylabel("GFLOP/s (6·N·S·D / time)")
    axes.grid(True, which="both", alpha=0.2)
    axes.legend()
    figure.savefig(path)


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    with open(MEASURED.value) as file:
        found = points(json.load(file)["rows"])
    roof = roofs()
    print(format_table([roof]))
    print(format_table(found))
    if PLOT.value:
        draw(roof, found, PLOT.value)
    if shared.JSON.value:
        write_json(shared.JSON.value, {"roofs": roof, "points": found})


if __name__ == "__main__":
    flags.mark_flag_as_required("measured")
    app.run(main)
