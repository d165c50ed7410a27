"""How many users a recurrent model needs to pass item-to-item baselines: ML-1M, leave-one-out.

  python -m benchmarks.learning_curve --json=learning_curve.json     # about ten CPU minutes

For each number of users, drawn at random, the GRU of configs/ml1m_sequences_full.py is trained on
their events alone and compared with the baselines of every report, over all items that they have
had at least five times together. One CPU thread. Needs ml-1m-sequences under $NEGFLAX_DATA_DIR.
"""

from __future__ import annotations

import os

if __name__ == "__main__":  # one thread, before anything starts a pool
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    one = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
    os.environ["XLA_FLAGS"] = one

import dataclasses  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
from absl import flags  # noqa: E402

from benchmarks.accuracy import config_of  # noqa: E402
from launch import flags as shared  # noqa: E402
from negflax.config import Config  # noqa: E402
from negflax.data import build_sequences, open_source  # noqa: E402
from negflax.data.sources import RawData  # noqa: E402
from negflax.evaluate import evaluation, format_table  # noqa: E402
from negflax.files import write_json  # noqa: E402
from negflax.fitting import train_run  # noqa: E402
from negflax.mesh import make_mesh  # noqa: E402
from negflax.train.restore import load_trained  # noqa: E402

BASELINES = ("ease", "ease_recent", "item_knn", "markov_5", "popularity")
USERS = flags.DEFINE_list("users", ["500", "1000", "2000", "6040"], "Numbers of users.")
MODEL = flags.DEFINE_string("model", "gru", "One of benchmarks.accuracy.")


def of_users(raw: RawData, count: int, seed: int = 0) -> RawData:
    """The events of `count` users, drawn at random."""
    users = pc.unique(raw.events["user_id"]).sort()
    chosen = np.random.default_rng(seed).permutation(len(users))[:count]
    mine = pc.is_in(raw.events["user_id"], users.take(pa.array(chosen)))
    return dataclasses.replace(raw, events=raw.events.filter(mine))


def row_of(config: Config, raw: RawData, count: int) -> dict[str, Any]:
    """Trains on some users: NDCG@10 and HR@10 of the model and of the baselines."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder)
        sequences = build_sequences(of_users(raw, count), config)
        outcome = train_run(config, workdir, sequences)
        trained = load_trained(workdir, "latest", make_mesh(config.mesh))
        found = evaluation.evaluate_trained(trained, "test", workdir, sequences).metrics
    row = {"users": count, "items": sequences.catalogue.num_rows - 1}
    for metric in ("hr", "ndcg"):
        row[f"model/{metric}@10"] = found[f"{metric}_p@10"]
        row |= {f"{name}/{metric}@10": found[f"{name}/{metric}_p@10"] for name in BASELINES}
    for name in BASELINES[:2]:
        ends = [found[f"ndcg_p@10/vs_{name}{end}"] for end in ("", "_low", "_high")]
        row[f"ndcg@10/vs_{name}"] = "{:.2f} [{:.2f}, {:.2f}]".format(*ends)
    return row | {"CPU s": outcome.goodput.cpu["step"] + outcome.goodput.cpu["compile"]}


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    config = config_of(MODEL.value, 0)
    with tempfile.TemporaryDirectory() as folder:
        shared.start(folder)
        raw = open_source(config, Path(folder))
        rows = [row_of(config, raw, int(count)) for count in USERS.value]
    for metric in ("ndcg@10", "hr@10"):
        names = ["users", "items", *(k for k in rows[0] if metric in k)]
        print(format_table([{k: row[k] for k in names} for row in rows]))
    if shared.JSON.value:
        write_json(shared.JSON.value, {"rows": rows})


if __name__ == "__main__":
    shared.run(main)
