"""Accuracy of each encoder on leave-one-out data, over seeds, with the CPU time that it took.

  python -m benchmarks.accuracy --models=gru,gru_wide --seeds=3 --json=accuracy.json \
    --plot=docs/accuracy.svg                       # 3 to 5 CPU minutes a seed and model
  python -m benchmarks.accuracy --models=timed,untimed --seeds=3     # ml-100k, which has times

One CPU thread. Needs ml-1m-sequences (ml-100k) under $NEGFLAX_DATA_DIR. Ranking is over the whole
catalogue with seen items masked, of the last event of each user; the last but one is validation.
CPU seconds are those of training with compilation. Events of one moment keep the order of the file.
"""

from __future__ import annotations

import os

if __name__ == "__main__":  # one thread, before anything starts a pool
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    one = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
    os.environ["XLA_FLAGS"] = one

import statistics  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import matplotlib.pyplot as plt  # noqa: E402
from absl import flags  # noqa: E402

from launch import flags as shared  # noqa: E402
from negflax import config as configs  # noqa: E402
from negflax.config import Config, from_config_dict  # noqa: E402
from negflax.data import Sequences, build_sequences, history_batch, open_source  # noqa: E402
from negflax.evaluate import Result, evaluation, format_table  # noqa: E402
from negflax.files import write_json  # noqa: E402
from negflax.fitting import train_run  # noqa: E402
from negflax.mesh import make_mesh  # noqa: E402
from negflax.train.restore import load_trained  # noqa: E402

SAME_SECOND = 1  # code of a gap below a second (negflax/data/features.py)
FULL, BEST, SMALL = "ml1m_sequences_full", "ml1m_sequences_best", "ml100k_sequences"
SLOWER = {"optimizer.learning_rate": 2e-3, "optimizer.table_learning_rate": 2e-3}
MEDIUM = {"optimizer.learning_rate": 4e-3, "optimizer.table_learning_rate": 4e-3}
DROPPED = {"model.dropout_input": 0.3, "model.dropout_output": 0.3}
# Name → (config, what is changed in it).
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gru_sampled": ("ml1m_sequences", {}),
    "gru": (FULL, {}),
    "gru_wide": (BEST, {}),
    "gru_seen_too": (FULL, {"loss.exclude_seen": False}),
    "gru_smoothed": (FULL, {"loss.label_smoothing": 0.05, "loss.exclude_seen": False}),
    "gru_memory": (BEST, {"model.encoder": "gru_memory", "model.hidden": 128}),
    "lstm": (FULL, {"model.encoder": "lstm"}),
    "cfn": (FULL, {"model.encoder": "cfn"}),
    "rglru": (FULL, {"model.encoder": "rglru", "model.layers": 2} | MEDIUM),
    "attention": (FULL, {"model.encoder": "attention", "model.layers": 2} | SLOWER | DROPPED),
    "untimed": (SMALL, {}),
    "timed": (SMALL, {"model.request": ("gap", "hour", "weekday")}),
}
NAMES = flags.DEFINE_list("models", ["gru", "gru_wide"], f"Any of {', '.join(MODELS)}.")
SEEDS = flags.DEFINE_integer("seeds", 3, "Training seeds, from 0.")
PLOT = flags.DEFINE_string("plot", "", "Draw accuracy over CPU time into this file.")


def config_of(name: str, seed: int) -> Config:
    """The run of a model and seed."""
    shipped, changes = MODELS[name]
    config = configs.shipped(shipped)
    for key, value in changes.items():
        section, setting = key.split(".")
        config[section][setting] = value
    config.train.seed = config.batch.seed = seed
    return from_config_dict(config)


def run_seed(name: str, seed: int) -> dict[str, Any]:
    """Trains and ranks: a row of the table."""
    config = config_of(name, seed)
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder)
        sequences = build_sequences(open_source(config, workdir), config)
        outcome = train_run(config, workdir, sequences)
        trained = load_trained(workdir, "latest", make_mesh(config.mesh))
        cpu = outcome.goodput.cpu
        row = {"model": name, "seed": seed, "CPU s": cpu["step"] + cpu["compile"]}
        for split, suffix in (("valid", " valid"), ("test", "")):
            result = evaluation.evaluate_model(trained, split, sequences)
            row |= {f"{k}@10{suffix}": result.metrics[f"{k}_p@10"] for k in ("hr", "ndcg")}
        row |= apart(result, sequences)
        if not seed and name == "gru_sampled":
            full = evaluation.evaluate_trained(trained, "test", workdir, sequences).metrics
            row |= {k: v for k, v in full.items() if k.endswith("/ndcg_p@10")}
    return row


def apart(result: Result, sequences: Sequences) -> dict[str, float]:
    """The same of events at least a second after the one before; {} where the log has no times.

    The order of events of one second is that of the file: it may tell what no user did.
    """
    queries = result.queries
    batch = history_batch(sequences, queries.end_R, queries.user_R, 2)
    later_R = batch.request_BTR[:, -1, 0] > SAME_SECOND
    values = result.values[True, "model"]
    if not later_R.any():
        return {}
    means = {k: float(values[f"{k}_p@10"].value_R[later_R].mean()) for k in ("hr", "ndcg")}
    return {f"{k}@10 apart": mean for k, mean in means.items()}


def figures_of(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """Mean, standard deviation and number over the seeds, by <model>/hr@10 and the like."""
    figures: dict[str, float | None] = {}
    for name in dict.fromkeys(row["model"] for row in rows):
        for metric in ("hr@10", "ndcg@10", "hr@10 apart", "ndcg@10 apart", "CPU s"):
            values = [row[metric] for row in rows if row["model"] == name and metric in row]
            if not values:
                continue
            key = f"{name}/{metric.replace('CPU s', 'cpu_seconds').replace(' ', '_')}"
            figures[key] = statistics.fmean(values)
            figures[f"{key}_std"] = statistics.stdev(values) if len(values) > 1 else None
            figures[f"{key}_seeds"] = len(values)
    return figures


def draw(rows: list[dict[str, Any]], path: str) -> None:
    """NDCG@10 of every run over the CPU seconds of its training."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for name in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == name]
        axes.plot([r["CPU s"] for r in mine], [r["ndcg@10"] for r in mine], "o", label=name)
    axes.set(xlabel="CPU seconds of training, one thread", ylabel="NDCG@10", xscale="log")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, bbox_inches="tight")


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    with tempfile.TemporaryDirectory() as folder:
        shared.start(folder)
        rows = [run_seed(name, seed) for name in NAMES.value for seed in range(SEEDS.value)]
    hidden = ("/ndcg_p@10",)  # of baselines, in the JSON
    print(format_table([{k: v for k, v in r.items() if not k.endswith(hidden)} for r in rows]))
    if PLOT.value:
        draw(rows, PLOT.value)
    if shared.JSON.value:
        write_json(shared.JSON.value, figures_of(rows) | {"runs": rows})


if __name__ == "__main__":
    shared.run(main)
