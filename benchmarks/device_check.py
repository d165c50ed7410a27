"""What only a device can tell, in ten minutes: right against float64, the loss, steps, tables.

  python -m benchmarks.device_check --json=device.json     # on a GPU or TPU
  python -m benchmarks.device_check --rehearse             # small sizes, anywhere: does it run?

Parts, in this order, each row printed and stored as soon as it is known:

  correct  the log-sum-exp and its gradients against float64, of `xla` and of the device's kernel,
           in both precisions, in two passes and, where there is such a form, in one
  loss     time of the loss and its gradients over N × S × D, of both; 6·N·S·D operations over it
  step     time of a training step, states a second, and the loss's share of it
  tables   time of a step over the catalogue's size: it should not know it

One device. Needs negflax alone. Exit code 1 if a result is wrong. What it finds belongs into
docs/accelerators.md, with date, device and versions; blocks of the Hopper kernel are tuned by
benchmarks/gpu_check.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu_check import problem, reference, seconds, show
from negflax.config import Config
from negflax.data import Batch
from negflax.data.features import NUM_VALUES
from negflax.files import write_json
from negflax.loss import OBJECTIVES, CandidateSet, KernelOptions, LabelBatch, objective_sum
from negflax.loss.kernels import one_pass
from negflax.loss.logsumexp import RUNS_ON, candidate_logsumexp
from negflax.loss.total import ONE_PASS
from negflax.mesh import make_mesh, split
from negflax.model import Recommender
from negflax.train.plan import Sizes
from negflax.train.step import Trainer

LIMITS = {"float32": 1e-5, "bfloat16": 1e-2}  # errors over the largest value
CORRECT = [(257, 1100, 64, 2, 5.0), (2049, 8192, 128, 1, 20.0), (1000, 33_333, 256, 2, 0.1)]
LOSS = [(51_200, 8_192, 64), (51_200, 8_192, 128), (8_192, 65_536, 64), (8_192, 100_000, 128)]
STEP = [(512, 100, 8_192)]  # B, T, S
ITEMS = (10**6, 10**7, 10**8)
SMALL = {"CORRECT": CORRECT[:1], "LOSS": [(256, 300, 16)], "STEP": [(8, 10, 64)], "ITEMS": (1000,)}


def kernels(precision: str) -> list[str]:
    """`xla`, and the kernel of this platform where it takes such products."""
    here = jax.devices()[0].platform
    own = [name for name, platform in RUNS_ON.items() if platform == here]
    return ["xla"] + [name for name in own if (name, precision) != ("mosaic_gpu", "float32")]


def correct(case: tuple, implementation: str, precision: str, form: str) -> dict[str, Any]:
    """Errors of value and gradients over the largest value of each."""
    states, candidates, bias, ids, exclude, g = problem(*case, "float32")
    options = KernelOptions(implementation, precision=precision)

    def in_one_pass(states, candidates, bias):
        def cost(_, lse, g):
            return (g * lse)[:, None]

        no_logits, all_count = jnp.zeros((len(states), 1)), jnp.ones(len(states), bool)
        per_state = one_pass.PerState(states, no_logits, exclude, all_count, g)
        return one_pass.state_loss_sum(cost, per_state, candidates, bias, ids, options)

    def in_two_passes(states, candidates, bias):
        lse = candidate_logsumexp(
            states,
            candidates,
            bias_S=bias,
            candidate_ids_S=ids,
            exclude_ids_NL=exclude,
            options=options,
        )
        return jnp.sum(jnp.where(jnp.isfinite(lse), g * lse, 0)), lse

    function = in_one_pass if form == "one pass" else in_two_passes
    both = jax.jit(jax.value_and_grad(function, (0, 1, 2), has_aux=True))
    (_, lse), gradients = both(states, candidates, bias)
    found, errors = (lse, *gradients), {}
    expected = reference(states, candidates, bias, ids, exclude, g)
    names = "lse", "d_states", "d_candidates", "d_bias"
    for name, ours, theirs in zip(names, found, expected, strict=True):
        finite = np.isfinite(theirs)
        scale = max(np.abs(theirs[finite]).max(initial=0), 1.0 if name == "lse" else 1e-30)
        errors[name] = float(np.abs(np.asarray(ours, np.float64) - theirs)[finite].max() / scale)
    good = max(errors.values()) <= LIMITS[precision] and bool(
        np.array_equal(np.isfinite(found[0]), np.isfinite(expected[0]))
    )
    row = {"case": "×".join(map(str, case)), "implementation": implementation}
    row |= {"precision": precision, "form": form}
    return row | {name: f"{error:.1e}" for name, error in errors.items()} | {"good": good}


def loss_time(shape: tuple, implementation: str, precision: str) -> dict[str, Any]:
    """Milliseconds of the NTR loss with all gradients."""
    n, s, d = shape
    row = {"N": n, "S": s, "D": d, "implementation": implementation, "precision": precision}
    states, candidates, bias, ids, label_ids, _ = problem(n, s, d, 2, 5.0, "float32")
    options = KernelOptions(implementation, precision=precision)

    def total(states, candidates, bias):
        logits = jnp.einsum("nd,ld->nl", states, candidates[:2])
        labels = LabelBatch(label_ids, logits, jnp.ones_like(logits), jnp.ones_like(logits))
        items = CandidateSet(candidates, bias, ids)
        return objective_sum(OBJECTIVES["ntr"], states, labels, items, options=options)[0]

    call = jax.jit(jax.value_and_grad(total, (0, 1, 2)))
    try:
        row["ms"] = round(1e3 * seconds(functools.partial(call, states, candidates, bias)), 4)
        row["tflops_6nsd"] = round(6e-9 * n * s * d / row["ms"], 1)
    except Exception as error:  # out of memory, or not compiled: part of the finding
        row["failed"] = str(error).strip().splitlines()[0][:100]
    return row


def step_time(shape: tuple, items: int, implementation: str, precision: str) -> dict[str, Any]:
    """Milliseconds of a whole training step of the default model with uniform candidates."""
    rows, steps, count = shape
    row = {"B": rows, "T": steps, "S": count, "items": items, "implementation": implementation}
    row["precision"] = precision
    config = Config()
    config = dataclasses.replace(
        config,
        batch=dataclasses.replace(config.batch, rows=rows, length=steps),
        model=dataclasses.replace(config.model, precision=precision),
        loss=dataclasses.replace(
            config.loss,
            candidates="uniform",
            num_candidates=count,
            implementation=implementation,
        ),
    )
    mesh = make_mesh(config.mesh, jax.devices()[:1])
    try:
        model = Recommender(config.model, Sizes(items + 1, dict(NUM_VALUES)))
        trainer = Trainer(config, model, np.ones(9), 1_000_000, mesh)
        batch = jax.device_put(random_batch(rows, steps, items), split(mesh))
        state = [trainer.init()]

        def call() -> Any:
            state[0], metrics = trainer.step(state[0], batch)
            return metrics

        row["ms"] = round(1e3 * seconds(call), 3)
        row["states_per_s"] = round(1e3 * rows * steps / row["ms"])
    except Exception as error:
        row["failed"] = str(error).strip().splitlines()[0][:100]
    return row


def random_batch(rows: int, steps: int, items: int) -> Batch:
    """Uniform items and feedback; every state has one label."""
    rng = np.random.default_rng(0)
    codes = {
        f"{name}_BT": rng.integers(0, 2, (rows, steps)).astype(np.int32)
        for name in ("dislike", "dwell", "watch_ratio", "gap", "surface", "dismissal")
    }
    unknown = np.zeros((rows, steps), np.int32)
    positive = (rng.random((rows, steps, 1)) < 0.6).astype(np.float32)
    return Batch(
        **codes,
        item_ids_BT=rng.integers(1, items + 1, (rows, steps)).astype(np.int32),
        creator_BT=unknown,
        cluster_BT=unknown,
        reset_BT=np.broadcast_to(np.arange(steps) == 0, (rows, steps)),
        label_ids_BTL=rng.integers(1, items + 1, (rows, steps, 1)).astype(np.int32),
        positive_weight_BTL=positive,
        negative_weight_BTL=1 - positive,
    )


def rows_of(part: str, sizes: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row of a part after another."""
    each = [(name, precision) for precision in LIMITS for name in kernels(precision)]
    if part == "correct":
        for case, how in itertools.product(sizes["CORRECT"], each):
            forms = ("one pass", "two passes") if how[0] in ONE_PASS else ("two passes",)
            yield from (correct(case, *how, form) for form in forms)
    elif part == "loss":
        yield from (loss_time(shape, *how) for shape in sizes["LOSS"] for how in each)
    elif part == "step":
        for shape in sizes["STEP"]:
            for how in each:
                row = step_time(shape, sizes["ITEMS"][0], *how)
                n, s = shape[0] * shape[1], shape[2]
                alone = loss_time((n, s, Config().model.embedding), *how)
                if "ms" in row and "ms" in alone:
                    row["loss_share"] = round(alone["ms"] / row["ms"], 3)
                yield row
    else:
        shape = sizes["STEP"][0]
        yield from (step_time(shape, items, "xla", "float32") for items in sizes["ITEMS"])


def main(argv: list[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the figures here, after every row")
    parser.add_argument("--parts", default="correct,loss,step,tables")
    parser.add_argument("--seconds", type=float, default=540, help="no new row after these")
    parser.add_argument("--rehearse", action="store_true", help="small sizes")
    options = parser.parse_args(argv)
    sizes = {"CORRECT": CORRECT, "LOSS": LOSS, "STEP": STEP, "ITEMS": ITEMS}
    sizes = SMALL if options.rehearse else sizes
    device, end = jax.devices()[0], time.perf_counter() + options.seconds
    found: dict[str, Any] = {"device": device.device_kind, "jax": jax.__version__}
    print(found)
    for part in options.parts.split(","):
        found[part] = []
        for row in rows_of(part, sizes):
            show(row)
            found[part].append(row)
            if options.json:
                write_json(options.json, found)
            if time.perf_counter() > end:
                print(f"{part}: stopped after --seconds={options.seconds:g}")
                break
    return int(not all(row["good"] for row in found.get("correct", [])))


if __name__ == "__main__":
    sys.exit(main())
