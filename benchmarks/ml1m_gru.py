"""Training speed and accuracy on ML-1M, leave-one-out, on one CPU thread.

  python -m benchmarks.ml1m_gru --json=ml1m_gru.json            # about 2 minutes a seed
  python -m benchmarks.ml1m_gru --quick                         # 100 steps, speed only

Runs configs/ml1m_sequences.py: GRU h128, 2,048 shared samples with logQ, positives only. Ranking is
over the whole catalogue with seen items masked. CPU seconds are those of the whole process while it
trains; compilation (also shown) and evaluation are apart.
"""

from __future__ import annotations

import os

# One thread, before anything starts a pool.
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"

import dataclasses  # noqa: E402
import statistics  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from absl import flags  # noqa: E402

from configs import ml1m_sequences  # noqa: E402
from launch import flags as shared  # noqa: E402
from negflax.config import Config, from_config_dict  # noqa: E402
from negflax.data import build_sequences, open_source  # noqa: E402
from negflax.evaluate import evaluation, format_table  # noqa: E402
from negflax.files import write_json  # noqa: E402
from negflax.fitting import train_run  # noqa: E402
from negflax.mesh import make_mesh  # noqa: E402
from negflax.train.restore import load_trained  # noqa: E402

SEEDS = flags.DEFINE_integer("seeds", 3, "Training seeds.")
QUICK = flags.DEFINE_boolean("quick", False, "One seed, 100 steps.")


def run_seed(config: Config, seed: int, workdir: Path) -> dict[str, Any]:
    """Trains and ranks with one seed: a row of the table."""
    train = dataclasses.replace(config.train, seed=seed)
    batch = dataclasses.replace(config.batch, seed=seed)
    config = dataclasses.replace(config, train=train, batch=batch)
    sequences = build_sequences(open_source(config, workdir), config)
    outcome = train_run(config, workdir, sequences)
    trained = load_trained(workdir, "latest", make_mesh(config.mesh))
    metrics = evaluation.evaluate_trained(trained, "test", workdir, sequences).metrics
    return {
        "seed": seed,
        "steps": outcome.step,
        "targets_per_cpu_second": round(outcome.targets_per_cpu_second),
        "training_cpu_seconds": outcome.goodput.cpu["step"],
        "compile_cpu_seconds": outcome.goodput.cpu["compile"],
        "hr_p@10": metrics["hr_p@10"],
        "ndcg_p@10": metrics["ndcg_p@10"],
        "popularity ndcg_p@10": metrics["popularity/ndcg_p@10"],
        "markov ndcg_p@10": metrics["markov/ndcg_p@10"],
    }


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    config = from_config_dict(ml1m_sequences.get_config())
    if QUICK.value:
        train = dataclasses.replace(config.train, steps=100)
        config = dataclasses.replace(config, train=train)
    with tempfile.TemporaryDirectory() as folder:
        shared.start(folder)
        seeds = range(1 if QUICK.value else SEEDS.value)
        rows = [run_seed(config, seed, Path(folder) / str(seed)) for seed in seeds]
    print(format_table(rows))
    figures = {k: statistics.median(row[k] for row in rows) for k in rows[0] if k != "seed"}
    if shared.JSON.value:
        write_json(shared.JSON.value, figures | {"runs": rows})


if __name__ == "__main__":
    shared.run(main)
