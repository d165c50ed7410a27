"""negflax as benchmarks/training.py runs it, in a process of its own: prints a row as JSON.

The arguments are a name of `CASES` and the number of threads, 1 or 0 for all.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__" and sys.argv[2] == "1":  # before anything starts a pool
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
    os.environ["XLA_FLAGS"] = flags

import dataclasses  # noqa: E402
import json  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jax import lax  # noqa: E402

from configs import ml1m_sequences, ml1m_sequences_best, ml1m_sequences_full  # noqa: E402
from negflax.allocator import keep_memory  # noqa: E402
from negflax.config import Config, from_config_dict  # noqa: E402
from negflax.data import build_sequences, open_source  # noqa: E402
from negflax.evaluate import evaluation  # noqa: E402
from negflax.fitting import train_run  # noqa: E402
from negflax.loss.kernels import xla  # noqa: E402
from negflax.mesh import make_mesh  # noqa: E402
from negflax.model.encoders.products import in_force  # noqa: E402
from negflax.train.restore import load_trained  # noqa: E402

STEPS, SHORT = 300, (0.5, 0.75, 1.0, 1.5, 2.5)  # epochs, until NDCG@10 = .148
CASES = {
    "sampled": ml1m_sequences,
    "full": ml1m_sequences_full,
    "best": ml1m_sequences_best,
}


def train(config: Config, **changes: Any) -> tuple[Any, float | None]:
    """(outcome of training, NDCG@10 of the test event if `epochs` is among the changes)."""
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, **changes))
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder)
        sequences = build_sequences(open_source(config, workdir), config)
        outcome = train_run(config, workdir, sequences)
        if "epochs" not in changes:
            return outcome, None
        trained = load_trained(workdir, "latest", make_mesh(config.mesh))
        result = evaluation.evaluate_model(trained, "test", sequences)
        return outcome, result.metrics["ndcg_p@10"]


def time_to_ndcg(config: Config) -> dict[str, Any]:
    """CPU seconds of training, compilation included, of the shortest run with NDCG@10 ≥ .148."""
    for epochs in SHORT:
        outcome, ndcg = train(config, epochs=epochs)
        if ndcg >= 0.148:
            cpu = outcome.goodput.cpu
            seconds = cpu["step"] + cpu["compile"]
            return {"cpu_seconds_to_ndcg_148": seconds, "epochs": epochs, "ndcg@10": ndcg}
    return {"cpu_seconds_to_ndcg_148": None, "epochs": SHORT[-1], "ndcg@10": ndcg}


def products_of_a_step(config: Config) -> Callable[[], Any]:
    """The matrix products of a training step alone, at their shapes and precision.

    Those of the encoder have operands that lie by rows, as bfloat16 is slow with others on CPUs.
    """
    states, width, hidden = config.batch.rows * config.batch.length, 128, config.model.hidden
    candidates = config.loss.num_candidates if config.loss.candidates != "full" else 3_417
    kind = jnp.bfloat16 if in_force(config.model) == "bfloat16" else jnp.float32
    tile = xla.state_tile(states, candidates, config.loss.block_elements)

    def array(*shape: int) -> jax.Array:
        return jnp.full(shape, 0.01, kind)

    def dot(left: jax.Array, right: jax.Array, axes: tuple[int, int]) -> jax.Array:
        dims = (((axes[0],), (axes[1],)), ((), ()))
        return lax.dot_general(left, right, dims, preferred_element_type=jnp.float32)

    rows_SD, rows_DS = array(candidates, width), array(width, candidates)
    blocks = array(states // tile, tile, width)
    inputs_ND, inputs_DN = array(states, width), array(width, states)
    gates_DG, gates_GD = array(width, 3 * hidden), array(3 * hidden, width)
    before_TBH = array(config.batch.length, config.batch.rows, hidden)
    before_HN, recurrent_HG = array(hidden, states), array(hidden, 3 * hidden)
    recurrent_GH = array(3 * hidden, hidden)

    def loss(total_SD: jax.Array, block_bD: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits_Sb = dot(rows_SD, block_bD, (1, 1)).astype(kind)
        return total_SD + dot(logits_Sb, block_bD, (1, 0)), dot(rows_DS, logits_Sb, (1, 0))

    def encoder(carry_BH: jax.Array, before_BH: jax.Array) -> tuple[jax.Array, jax.Array]:
        g_BG = dot(before_BH + carry_BH.astype(kind), recurrent_HG, (1, 0))
        return dot(g_BG.astype(kind), recurrent_GH, (1, 0)), g_BG

    @jax.jit
    def step() -> Any:
        loss_sums = lax.scan(loss, jnp.zeros(rows_SD.shape), blocks)
        gates_NG = dot(inputs_ND, gates_DG, (1, 0)).astype(kind)
        back = dot(gates_NG, gates_GD, (1, 0)), dot(inputs_DN, gates_NG, (1, 0))
        last, g_TBG = lax.scan(encoder, jnp.zeros(before_TBH.shape[1:]), before_TBH)
        g_NG = g_TBG.reshape(-1, 3 * hidden).astype(kind)
        return jax.tree.map(jnp.sum, (loss_sums, back, last, dot(before_HN, g_NG, (1, 0))))

    return step


def roof(config: Config) -> float:
    """Targets a CPU second if a step were its matrix products alone."""
    step = products_of_a_step(config)
    jax.block_until_ready(step())
    start, rounds = time.process_time(), 20
    for _ in range(rounds):
        jax.block_until_ready(step())
    targets = rounds * config.batch.rows * config.batch.length
    return targets / (time.process_time() - start)


def main(case: str) -> dict[str, Any]:
    """A row of the benchmark."""
    if case == "to_ndcg_148":
        return time_to_ndcg(from_config_dict(ml1m_sequences_full.get_config()))
    config = from_config_dict(CASES[case].get_config())
    outcome, _ = train(config, steps=STEPS)
    row = {"targets_per_cpu_second": outcome.targets_per_cpu_second}
    return row | {"roof": roof(config), "precision": in_force(config.model)}


if __name__ == "__main__":
    keep_memory()
    print(json.dumps(main(sys.argv[1])))
