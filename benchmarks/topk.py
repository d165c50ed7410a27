"""Exact top-K of a catalogue against the bare matrix product of the same size.

  python -m benchmarks.topk --json=topk.json     # 10,000 users × 1 M items × 64, K = 100
  python -m benchmarks.topk --quick              # 1,000 users × 200,000 items, half a minute
  JAX_NUM_CPU_DEVICES=8 python -m benchmarks.topk --rows=10000000 --users=64   # on 8 devices and 1

Users come in blocks. Each round times one block by the bare product, whose scores are written and
thrown away, in the fastest of two layouts and two chunk sizes, and by the search, one after the
other; CPU seconds are medians over rounds × number of blocks. Every user has seen items that are
excluded. The recall of `approx_max_k` is measured against the exact lists. On several devices the
table is also searched on one of them: `same_lists` is the share of users whose two lists are equal.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jax import lax

from launch import flags as shared
from negflax.allocator import keep_memory
from negflax.config import MeshConfig
from negflax.evaluate import format_table
from negflax.files import write_json
from negflax.mesh import make_mesh, split
from negflax.serve.topk import CHUNK, top_k_function

QUICK = flags.DEFINE_boolean("quick", False, "Small sizes.")
ROWS = flags.DEFINE_integer("rows", 1_000_000, "Rows of the table, V.")
USERS = flags.DEFINE_integer("users", 10_000, "Users.")
BLOCK_USERS = flags.DEFINE_integer("block_users", 256, "Users scored at a time.")
WIDTH = flags.DEFINE_integer("width", 64, "Width of a row, D.")
K = flags.DEFINE_integer("k", 100, "List length.")
SEEN = flags.DEFINE_integer("seen", 20, "Excluded items a user.")
ROUNDS = flags.DEFINE_integer("rounds", 7, "Timings of each.")
APPROXIMATE = flags.DEFINE_float("approximate", 0.95, "Expected recall of approx_max_k.")


@functools.partial(jax.jit, static_argnames=("rows_first", "size"))
def bare_product(queries: jax.Array, rows: jax.Array, *, rows_first: bool, size: int) -> jax.Array:
    """All scores, chunk by chunk as in the search; each chunk's are written, two are kept."""

    def add(total: jax.Array, chunk: jax.Array) -> tuple[jax.Array, None]:
        part = lax.dynamic_slice_in_dim(rows, chunk * size, size)
        scores = part @ queries.T if rows_first else queries @ part.T
        scores = lax.optimization_barrier(scores)
        return total + scores[0, 0] + scores[-1, -1], None

    chunks = -(-len(rows) // size)  # the last one is moved up to be whole, as in the search
    return lax.scan(add, jnp.zeros((), rows.dtype), jnp.arange(chunks))[0]


def temporary_mb(function: Any, *arguments: Any) -> float:
    """Temporary memory of the compiled program."""
    return function.lower(*arguments).compile().memory_analysis().temp_size_in_bytes / 2**20


def interleaved(calls: dict[str, Any], rounds: int) -> dict[str, float]:
    """Median CPU seconds; every round calls each once, so that all see the same machine."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(rounds + 1):
        for name, call in calls.items():
            before = time.process_time()
            jax.block_until_ready(call())
            if round_:  # the first compiles
                times[name].append(time.process_time() - before)
    return {name: statistics.median(values) for name, values in times.items()}


def recall(exact: jax.Array, found: jax.Array) -> float:
    """Share of the exact lists' items that were found."""
    pairs = zip(np.asarray(exact), np.asarray(found), strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / len(a) for a, b in pairs]))


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    keep_memory()  # as every program does
    num_rows, users = (200_000, 1_000) if QUICK.value else (ROWS.value, USERS.value)
    k, size = K.value, min(BLOCK_USERS.value, users)
    mesh = make_mesh(MeshConfig())
    rng = np.random.default_rng(0)
    padded = -(-num_rows // mesh.size) * mesh.size
    table = rng.normal(size=(padded, WIDTH.value)).astype(np.float32)
    queries = rng.normal(size=(size, WIDTH.value)).astype(np.float32)
    seen = rng.integers(1, num_rows, (size, SEEN.value)).astype(np.int32)
    rows = jax.device_put(table, split(mesh))
    search = top_k_function(mesh, num_rows, k)
    blocks = -(-users // size)
    found: dict[str, Any] = {
        "users": users,
        "rows": num_rows,
        "width": WIDTH.value,
        "k": k,
        "seen": SEEN.value,
        "devices": mesh.size,
    }
    approximate = top_k_function(mesh, num_rows, k, APPROXIMATE.value)
    exact = search(queries, rows, seen)[0]
    found["approx_expected_recall"] = APPROXIMATE.value
    found["approx_recall"] = recall(exact, approximate(queries, rows, seen)[0])
    found["temp_mb"] = temporary_mb(search, queries, rows, seen)
    calls = {
        "search": lambda: search(queries, rows, seen),
        "approximate": lambda: approximate(queries, rows, seen),
    }
    if mesh.size == 1:
        on_device = jnp.asarray(queries)
        for first, chunk in itertools.product((True, False), (CHUNK, 2 * CHUNK)):
            calls[f"product, {'rows' if first else 'users'} first, chunks of {chunk}"] = (
                functools.partial(bare_product, on_device, rows, rows_first=first, size=chunk)
            )
    else:
        alone = make_mesh(MeshConfig(), jax.devices()[:1])
        single = top_k_function(alone, num_rows, k)(
            queries, jax.device_put(table, split(alone)), seen
        )
        found["same_lists"] = float((np.asarray(single[0]) == np.asarray(exact)).all(axis=1).mean())
    seconds = {name: blocks * s for name, s in interleaved(calls, ROUNDS.value).items()}
    products = [s for name, s in seconds.items() if name.startswith("product")]
    found |= {f"{name.split(',')[0]}_s": s for name, s in seconds.items()}
    if products:
        found["product_s"] = min(products)
        found["time_ratio_vs_matmul"] = seconds["search"] / min(products)
    print(format_table([{"what": name, "seconds": s} for name, s in seconds.items()]))
    print(format_table([{"figure": name, "value": value} for name, value in found.items()]))
    print(f"{jax.devices()[0].device_kind}, {jax.device_count()} device(s), jax {jax.__version__}")
    if shared.JSON.value:
        write_json(shared.JSON.value, found)


if __name__ == "__main__":
    app.run(main)
