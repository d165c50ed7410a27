"""Whether given vectors of items help: MovieLens 100K, with and without, over seeds.

  python -m benchmarks.item_vectors --json=item_vectors.json      # about 6 CPU minutes

The vector of a film is made of its title and genres: each word is hashed to one of 256 places with
a sign, and the vector has length 1. Models differ in config.model.composed alone; settings, split
and metrics are those of configs/event_log.py (the last fifth of each user's ratings, all items
ranked). Needs ml-100k under $NEGFLAX_DATA_DIR.
"""

from __future__ import annotations

import dataclasses
import re
import statistics
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from absl import flags

from launch import flags as shared
from negflax.config import Config, event_log_defaults
from negflax.data import build_sequences, open_source
from negflax.data.sources import RawData
from negflax.evaluate import evaluation, format_table
from negflax.files import write_json
from negflax.fitting import train_run
from negflax.mesh import make_mesh
from negflax.train.restore import load_trained

SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each model.")
CHOSEN = flags.DEFINE_list("arms", [], "Some of the models; empty: all.")
STEPS = flags.DEFINE_integer("steps", 0, "Steps of each run; 0: those of the settings.")
ARMS: dict[str, tuple[str, ...]] = {
    "own rows": (),
    "vectors": ("vector",),
    "genres": ("cluster",),
    "genres and vectors": ("cluster", "vector"),
}
WIDTH = 256


def hashed(texts: list[list[str]]) -> np.ndarray:
    """(I, WIDTH) vectors of length 1: each word adds ±1 at one place."""
    vectors_IW = np.zeros((len(texts), WIDTH), np.float32)
    for row, words in enumerate(texts):
        for word in words:
            code = zlib.crc32(word.encode())
            vectors_IW[row, code % WIDTH] += 1 - 2 * (code // WIDTH % 2)
    norm_I1 = np.linalg.norm(vectors_IW, axis=1, keepdims=True)
    return vectors_IW / np.maximum(norm_I1, 1e-9)


def with_vectors(raw: RawData) -> RawData:
    """The data with vectors of titles and genres."""
    items = raw.items.to_pydict()
    genres = items.get("cluster_ids") or [[]] * len(items["item_id"])
    texts = [
        re.findall(r"\w+", (title or "").lower()) + [f"genre {one}" for one in of or []]
        for title, of in zip(items["title"], genres, strict=True)
    ]
    vectors = pa.array(list(hashed(texts)), pa.list_(pa.float32()))
    return dataclasses.replace(raw, items=raw.items.append_column("item_vector", vectors))


def config_of(composed: tuple[str, ...], seed: int) -> Config:
    """The settings of configs/event_log.py for MovieLens 100K."""
    config = event_log_defaults(100_000)
    replace = dataclasses.replace
    train = replace(config.train, seed=seed)
    if STEPS.value:
        train = replace(train, steps=STEPS.value)
    return replace(
        config,
        data=replace(
            config.data, source="movielens_100k", split="user_fraction", test_fraction=0.2
        ),
        labels=replace(config.labels, positive=("rating >= 4",), negative=("rating <= 2",)),
        model=replace(config.model, composed=composed),
        batch=replace(config.batch, seed=seed),
        train=train,
    )


def metrics_of(config: Config, raw: RawData) -> dict[str, float]:
    """Trains and evaluates."""
    with tempfile.TemporaryDirectory() as folder:
        workdir, sequences = Path(folder), build_sequences(raw, config)
        train_run(config, workdir, sequences)
        trained = load_trained(workdir, "best", make_mesh(config.mesh))
        return evaluation.evaluate_trained(trained, "test", workdir, sequences).metrics


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    with tempfile.TemporaryDirectory() as folder:
        shared.start(folder)
        raw = with_vectors(open_source(config_of((), 0), Path(folder)))
        rows: list[dict[str, Any]] = []
        for name, composed in ARMS.items():
            if CHOSEN.value and name not in CHOSEN.value:
                continue
            found = [metrics_of(config_of(composed, seed), raw) for seed in range(SEEDS.value)]
            row: dict[str, Any] = {"item vectors": name}
            for metric in ("hr_p@10", "ndcg_p@10", "hr_n@10"):
                values = [one[metric] for one in found]
                row[metric] = statistics.mean(values)
                row[f"{metric}_std"] = statistics.stdev(values) if len(values) > 1 else 0.0
            rows.append(row | {"seeds": len(found)})
            print(format_table(rows))
    if shared.JSON.value:
        write_json(shared.JSON.value, {"rows": rows})


if __name__ == "__main__":
    shared.run(main)
