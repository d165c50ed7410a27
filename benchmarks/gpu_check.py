"""The Hopper kernel on a GPU: correct against float64, which block sizes are fast, a grid of sizes.

  python -m benchmarks.gpu_check --parts=correct,tune --json=tune.json    # on an H100 or H200
  python -m benchmarks.gpu_check --parts=grid --json=grid.json            # each below 10 minutes
  python -m benchmarks.gpu_check                                          # interpreter, no GPU

Needs jax and NumPy only. Without a GPU the kernel runs in Pallas's GPU interpreter, which jax has
since 0.11 (Python 3.12), on small sizes and with a check for races; the interpreter knows no wgmma
accumulator, so products are plain there. Rates are 6·N·S·D operations over the time of value and
gradients, whatever an implementation really does; the ceiling is jax's own attention kernel with as
many rows, 4·N·S·D operations. Calls are timed in sequence, so rows of less than 0.05 ms show the
host's pace. Exit code 1 if a result is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import itertools
import sys
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.pallas import mosaic_gpu as plgpu

from negflax.files import write_json
from negflax.loss.kernels import flash_logsumexp_gpu, mosaic_gpu, xla
from negflax.loss.kernels.flash_logsumexp_gpu import Tiles

NAIVE_BYTES = 24 << 30  # of N × S arrays: beyond, the naive loss is not run
SHAPES = {  # part → (N, S, D)
    "tune": [(16_384, 65_536, d) for d in (64, 128, 256)],
    "grid": list(
        itertools.product(
            (8_192, 2_048, 32_768), (8_192, 65_536, 1_024, 100_000, 1_000_000), (64, 128, 256)
        )
    ),
}
CORRECT = [  # N, S, D, L, largest logit, type
    (128, 512, 64, 1, 5.0, "bfloat16"),
    (257, 1_100, 128, 2, 30.0, "bfloat16"),
    (5, 7, 9, 2, 5.0, "float16"),
    (1, 3, 1, 1, 1.0, "bfloat16"),
    (300, 290, 96, 0, 5.0, "float16"),
    (33, 2_500, 200, 1, 200.0, "bfloat16"),
    (129, 700, 256, 1, 1e4, "bfloat16"),
    (129, 700, 256, 3, 200.0, "float16"),
    (300, 200, 64, 1, 0.0, "float16"),
]
CORRECT_GPU = [
    (8_192, 8_192, 64, 1, 20.0, "bfloat16"),
    (2_049, 33_333, 128, 1, 20.0, "float16"),
    (4_097, 65_537, 64, 2, 200.0, "bfloat16"),
    (1_000, 100_003, 256, 1, 0.1, "float16"),
]
TUNE = {
    64: [(64, 128, 2), (64, 128, 4), (64, 192, 3), (64, 256, 3), (64, 64, 4), (128, 64, 4)],
    128: [(64, 128, 2), (64, 128, 3), (64, 128, 4), (64, 192, 2), (64, 192, 3), (64, 64, 4)],
    256: [(64, 64, 2), (64, 64, 3), (64, 64, 4), (64, 128, 2)],
}  # rows, columns, stages: each with and without turns; three groups beside


def problem(n: int, s: int, d: int, labels: int, largest: float, dtype: str) -> tuple:
    """States, candidates, bias (a tenth −inf), ids with duplicates, excluded ids, cotangent."""
    rng = np.random.default_rng([n, s, d])
    states, candidates = rng.normal(size=(n, d)), rng.normal(size=(s, d))
    states *= largest / np.abs(states[:500] @ candidates[:500].T).max()
    bias = np.where(rng.random(s) < 0.1, -np.inf, rng.normal(size=s))
    ids, exclude = rng.integers(0, max(1, s // 2), s), rng.integers(-1, max(1, s // 2), (n, labels))
    kinds = dtype, dtype, "float32", "int32", "int32", "float32"
    arrays = states, candidates, bias, ids, exclude, rng.normal(size=n)
    return tuple(jnp.asarray(x, kind) for x, kind in zip(arrays, kinds, strict=True))


@functools.partial(jax.jit, static_argnums=(1, 2))
def value_and_gradients(arrays, logsumexp, tiles):
    """lse_N and the gradients of Σ g·lse; `arrays` of `problem`, `logsumexp` an implementation."""
    states, candidates, bias, ids, exclude, g = arrays
    more = () if tiles is None else (None, tiles)
    lse, vjp = jax.vjp(lambda *x: logsumexp(*x, ids, exclude, *more), states, candidates, bias)
    return lse, *vjp(g)


@functools.partial(jax.jit, static_argnums=(1, 2))
def value(arrays, logsumexp, tiles):
    """lse_N only."""
    more = () if tiles is None else (None, tiles)
    return logsumexp(*arrays[:5], *more)


def xla_two_passes(states, candidates, bias, ids, exclude):
    """What `xla` does for any cotangent."""
    return xla.logsumexp(states, candidates, bias, ids, exclude, 8_000_000)


def naive(states, candidates, bias, ids, exclude):
    """All N × S logits, left to autodiff."""
    z = jnp.dot(states, candidates.T, preferred_element_type=jnp.float32) + bias
    masked = (exclude[:, :, None] == ids).any(1)
    return jax.nn.logsumexp(jnp.where(masked, -jnp.inf, z), axis=1)


def reference(states, candidates, bias, ids, exclude, g) -> list[np.ndarray]:
    """The same in float64 NumPy, a block of states at a time."""
    states, candidates, bias, ids, exclude, g = (
        np.asarray(x, np.float64 if jnp.issubdtype(x.dtype, jnp.floating) else None)
        for x in (states, candidates, bias, ids, exclude, g)
    )
    lse, d_states = np.zeros(len(states)), np.zeros(states.shape)
    d_candidates, d_bias = np.zeros(candidates.shape), np.zeros(len(bias))
    for start in range(0, len(states), 512):
        rows = slice(start, start + 512)
        z = states[rows] @ candidates.T + bias
        z[(exclude[rows][:, :, None] == ids).any(1)] = -np.inf
        top = np.maximum(z.max(1), -1e300)
        p = np.exp(z - top[:, None])
        total = p.sum(1)
        with np.errstate(divide="ignore"):
            lse[rows] = top + np.log(total)
        p *= (g[rows] / np.maximum(total, 1e-300))[:, None]
        d_states[rows], d_bias = p @ candidates, d_bias + p.sum(0)
        d_candidates += p.T @ states[rows]
    return [lse, d_states, d_candidates, d_bias]


def check(case: tuple, tiles: Tiles | None = None) -> dict[str, Any]:
    """Errors relative to the largest value, whether two runs agree bitwise, and the verdict."""
    arrays, (_, _, _, _, largest, dtype) = problem(*case), case
    with contextlib.redirect_stdout(io.StringIO()) as said:
        outputs = value_and_gradients(arrays, mosaic_gpu.logsumexp, tiles)
        only = value(arrays, mosaic_gpu.logsumexp, tiles)
        again = value_and_gradients(arrays, mosaic_gpu.logsumexp, tiles) if on_gpu() else outputs
        jax.block_until_ready((outputs, only, again))
    raced = "RACE DETECTED" in said.getvalue()  # the interpreter prints it, no more
    operand = {"bfloat16": 1e-2, "float16": 2e-3}[dtype]
    limits = 1e-5, operand, operand, 1e-4 if largest <= 200 else 2e-3
    errors = {}
    names = "lse", "d_states", "d_candidates", "d_bias"
    for name, ours, theirs in zip(names, outputs, reference(*arrays), strict=True):
        ours, finite = np.asarray(ours, np.float64), np.isfinite(theirs)
        same_empty = np.array_equal(np.isfinite(ours), finite)
        off = np.abs(ours[finite] - theirs[finite]).max(initial=0)
        scale = np.abs(theirs[finite]).max(initial=0)
        scale = max(1.0, scale) if name == "lse" else scale or 1.0
        errors[name] = float(off / scale) if same_empty else float("inf")
    close = all(error <= limit for error, limit in zip(errors.values(), limits, strict=True))
    bitwise = all(map(np.array_equal, outputs, again))
    alone = bool(np.allclose(only, outputs[0], rtol=1e-6, atol=1e-6))
    shown = {name: f"{error:.1e}" for name, error in errors.items()}
    good = close and bitwise and alone and not raced
    return {"case": describe(case), "tiles": describe(tiles), **shown, "raced": raced, "good": good}


def speed(shape: tuple, tiles: Tiles | None, logsumexp=mosaic_gpu.logsumexp, dtype="bfloat16"):
    """Milliseconds of value and of value with gradients, the rate, and temporary memory."""
    n, s, d = shape
    arrays = problem(n, s, d, 1, 5.0, dtype)
    row = {"N": n, "S": s, "D": d, "type": dtype, "tiles": describe(tiles)}
    row["implementation"] = f"{logsumexp.__module__.split('.')[-1]}.{logsumexp.__name__}"
    try:
        for name, function in (("value_ms", value), ("both_ms", value_and_gradients)):
            compiled = function.lower(arrays, logsumexp, tiles).compile()
            row[name] = round(1e3 * seconds(functools.partial(compiled, arrays)), 4)
        row["tflops_6nsd"] = round(6e-9 * n * s * d / row["both_ms"], 1)
        row["temporary_mb"] = round(compiled.memory_analysis().temp_size_in_bytes / 1e6, 1)
    except Exception as error:  # too many registers, too much shared memory: part of the finding
        row["failed"] = str(error).strip().splitlines()[0][:100]
    return row


def ceiling(shape: tuple) -> dict[str, Any]:
    """jax's attention kernel: the forward pass without bias and masks, values beside keys."""
    n, s, d = shape
    row = {"N": n, "S": s, "D": d, "type": "float16", "implementation": "jax attention"}
    try:
        from jax.experimental.pallas.ops.gpu import attention_mgpu as attention

        config = attention.TuningConfig(64, 128 if d <= 128 else 64, 2)
        q, k = (jnp.ones((1, length, 1, d), jnp.float16) for length in (n, s))
        call = jax.jit(lambda q, k: attention.attention(q, k, k, config)).lower(q, k).compile()
        row["value_ms"] = round(1e3 * seconds(lambda: call(q, k)), 4)
        row["tflops_4nsd"] = round(4e-9 * n * s * d / row["value_ms"], 1)
    except Exception as error:
        row["failed"] = repr(error)[:100]
    return row


def seconds(call) -> float:
    """The best of three means over as many calls as take about 50 ms."""
    jax.block_until_ready(call())
    start = time.perf_counter()
    jax.block_until_ready(call())
    repeats = max(1, min(200, int(0.05 / (time.perf_counter() - start))))
    means = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(repeats):
            last = call()
        jax.block_until_ready(last)
        means.append((time.perf_counter() - start) / repeats)
    return min(means)


def rows_of(part: str) -> Iterator[dict[str, Any]]:
    """One row of the table after another."""
    if part == "correct":
        for case in CORRECT + (CORRECT_GPU if on_gpu() else []):
            yield check(case)
        for sizes in ((128, 64, 2), (64, 64, 2, 3), (64, 64, 2, 1), (64, 192, 2)):
            yield check((129, 700, 64, 1, 20.0, "bfloat16"), Tiles(*sizes))
        if on_gpu():  # one part: a sum of 62,500 products, rounded as the tensor cores do
            with mock.patch.object(flash_logsumexp_gpu, "PROCESSORS", 1):
                yield check((257, 1_000_000, 64, 1, 5.0, "float16"))
    elif part == "tune":
        for shape in SHAPES["tune"]:
            for sizes, turns in itertools.product(TUNE[shape[2]], (True, False)):
                yield speed(shape, Tiles(*sizes, take_turns=turns))
            yield speed(shape, Tiles(64, 64, 3, groups=3))
            yield speed(shape, None, dtype="float16")
            yield ceiling(shape)
    else:
        for shape in SHAPES["grid"]:
            yield speed(shape, None)
            yield speed(shape, None, xla_two_passes)
            if 12 * shape[0] * shape[1] <= NAIVE_BYTES:
                yield speed(shape, None, naive)


@contextlib.contextmanager
def interpreted() -> Iterator[None]:
    """Runs the kernel on a CPU, in Pallas's GPU interpreter, with plain products; finds races."""

    def multiply_onto(start, a, b, meanwhile=lambda: None):
        product = lax.dot(a[...], b[...], preferred_element_type=jnp.float32)
        plgpu.commit_smem()  # wgmma reads as the memory engine does, this product as a program
        meanwhile()
        return start + product

    # Few processors make long parts, whose buffers are filled again and again.
    with (
        mock.patch.multiple(flash_logsumexp_gpu, _multiply_onto=multiply_onto, PROCESSORS=2),
        plgpu.force_gpu_interpret_mode(plgpu.InterpretGPUParams(detect_races=True)),
        jax.default_device(jax.devices("cpu")[0]),
    ):
        yield


def on_gpu() -> bool:
    return mosaic_gpu.available()


def describe(values: tuple | None) -> str:
    return "default" if values is None else "×".join(map(str, values))


def show(row: dict[str, Any]) -> None:
    """One line of the table, as soon as it is known."""
    print("  ".join(f"{name} {cell}" for name, cell in row.items()), flush=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the figures here, after every row")
    parser.add_argument("--parts", default="correct,tune,grid")
    parser.add_argument("--seconds", type=float, default=540, help="no new row after these")
    options = parser.parse_args()
    device = jax.devices()[0]
    found = {"device": device.device_kind, "jax": jax.__version__, "interpreted": not on_gpu()}
    print(found)
    if not on_gpu() and not hasattr(plgpu, "InterpretGPUParams"):
        sys.exit("No Hopper GPU here, and the GPU interpreter needs jax 0.11 (Python 3.12).")
    parts = options.parts.split(",") if on_gpu() else ["correct"]
    end = time.perf_counter() + options.seconds
    with contextlib.nullcontext() if on_gpu() else interpreted():
        for part in parts:
            found[part] = []
            for row in rows_of(part):
                show(row)
                found[part].append(row)
                if options.json:
                    write_json(options.json, found)
                if time.perf_counter() > end:
                    print(f"{part}: stopped after --seconds={options.seconds:g}")
                    break
    sys.exit(not all(row["good"] for row in found.get("correct", [])))


if __name__ == "__main__":
    main()
