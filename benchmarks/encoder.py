"""Encoders forward and backward, beside PyTorch's, on one thread, one after the other in turn.

  python -m benchmarks.encoder --peers=peers/bin/python --json=encoder.json   # about 15 minutes
  python -m benchmarks.encoder --quick                                        # ours alone, T = 50

Rows of T = 50, 200 and 1,000 events, 3,200 events at a time, width 128, one layer (attention: one
block with two heads; it sees 200 events back, PyTorch's all T). Microseconds of CPU time an event:
inputs projected, states, gradients of the inputs and of every parameter. Each is the median of the
rounds; PyTorch's, from a process of its own, is the faster of float32 and bfloat16 autocast.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # one thread, before anything starts a pool
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    one = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
    os.environ["XLA_FLAGS"] = one

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from absl import flags, logging  # noqa: E402
from flax import nnx  # noqa: E402

from launch import flags as shared  # noqa: E402
from negflax.config import ModelConfig  # noqa: E402
from negflax.evaluate import format_table  # noqa: E402
from negflax.files import write_json  # noqa: E402
from negflax.model import encoders  # noqa: E402
from negflax.model.encoders.products import precision  # noqa: E402

PEERS = flags.DEFINE_string("peers", "", "A Python with torch and numpy.")
ROUNDS = flags.DEFINE_integer("rounds", 3, "Measurements of each encoder and length.")
QUICK = flags.DEFINE_boolean("quick", False, "One round of T = 50, negflax alone.")
EVENTS, WIDTH, LENGTHS = 3_200, 128, (50, 200, 1_000)
NAMES = ("gru", "lstm", "cfn", "rglru", "attention")
PEERS_OF = {"gru": "nn.GRU", "lstm": "nn.LSTM", "attention": "attention"}


def microseconds(name: str, steps: int, product: str, repeats: int = 10) -> float:
    """CPU microseconds an event of one encoder, forward and backward."""
    config = ModelConfig(
        encoder=name, hidden=WIDTH, embedding=WIDTH, features=(), precision=product
    )
    graph, parameters = nnx.split(encoders.build(config, {}, jax.random.key(0)))
    rows = EVENTS // steps
    x_BTD = jnp.asarray(np.random.default_rng(0).normal(size=(rows, steps, WIDTH)), jnp.float32)
    reset_BT = jnp.zeros((rows, steps), bool).at[:, 0].set(True)

    @jax.jit
    def both(parameters: Any, x_BTD: jax.Array) -> Any:
        def total(parameters: Any, x_BTD: jax.Array) -> jax.Array:
            with precision(product):
                states, _ = nnx.merge(graph, parameters)(x_BTD, {}, {}, reset_BT)
            return jnp.sum(states * x_BTD)

        return jax.value_and_grad(total, (0, 1))(parameters, x_BTD)

    jax.block_until_ready(both(parameters, x_BTD))
    start = time.process_time()
    for _ in range(repeats):
        jax.block_until_ready(both(parameters, x_BTD))
    return (time.process_time() - start) / repeats / EVENTS * 1e6


def torch_microseconds(steps: int) -> dict[str, float]:
    """The same of PyTorch's encoders, from its own process."""
    script = Path(__file__).parent / "_encoder_torch.py"
    command = [PEERS.value, str(script), str(steps), str(EVENTS), str(WIDTH)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        logging.warning("PyTorch: %s", (done.stderr.strip() or "no message").splitlines()[-1])
        return {}
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    found = defaultdict(list)
    lengths = LENGTHS[:1] if QUICK.value else LENGTHS
    for _ in range(1 if QUICK.value else ROUNDS.value):
        for steps in lengths:
            for name in NAMES:
                for product in ("float32", "bfloat16"):
                    found[name, steps, product].append(microseconds(name, steps, product))
            for name, value in (torch_microseconds(steps) if PEERS.value else {}).items():
                found[name, steps, "PyTorch"].append(value)
    median = {key: statistics.median(values) for key, values in found.items()}
    rows = []
    for name in NAMES:
        for steps in lengths:
            row = {"encoder": name, "T": steps}
            row |= {f"{p} µs": round(median[name, steps, p], 2) for p in ("float32", "bfloat16")}
            peer = median.get((PEERS_OF.get(name, ""), steps, "PyTorch"))
            ratio = None if peer is None else peer / min(row["float32 µs"], row["bfloat16 µs"])
            row |= {"PyTorch µs": peer and round(peer, 2), "times as fast": ratio}
            rows.append(row)
    print(format_table(rows))
    if shared.JSON.value:
        write_json(shared.JSON.value, {"rows": rows})


if __name__ == "__main__":
    shared.run(main)
