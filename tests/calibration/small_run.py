"""A small run with random parameters, clusters, creators and a log with every kind of feedback."""

import dataclasses

import jax
import numpy as np
import pyarrow as pa

from negflax.config import (
    Config,
    EvalConfig,
    LabelConfig,
    LossConfig,
    MeshConfig,
    ModelConfig,
    TrainConfig,
)
from negflax.data.catalogue import Catalogue
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.train.restore import Trained
from negflax.train.step import Trainer

ITEMS, CLUSTERS, CREATORS = 60, 5, 12
CONFIG = Config(
    labels=LabelConfig(positive=("like",), negative=("dislike",)),
    model=ModelConfig(hidden=6, embedding=6, feature_dim=3, features=("dislike", "dwell", "gap")),
    eval=EvalConfig(history=50, users_per_block=8, bootstrap=0),
    loss=LossConfig(objective="ntr"),
)


def log(users=24, seed=0, feedback=None):
    """Events as a table; `feedback` sets columns by (users' numbers, items, generator)."""
    rng = np.random.default_rng(seed)
    length_U = rng.integers(8, 30, users)
    user_E = np.repeat(np.arange(users), length_U)
    place_E = np.concatenate([np.arange(length) for length in length_U])
    item_E = 100 + rng.integers(0, ITEMS, len(user_E))
    dwell_E = rng.choice([500.0, 6_000.0, 30_000.0, np.nan], len(user_E))
    dislike_E = rng.random(len(user_E)) < 0.2
    columns = {
        "user_id": user_E,
        "item_id": item_E,
        "timestamp_ms": 1_700_000_000_000 + 60_000 * place_E + user_E,
        "dwell_ms": pa.array(dwell_E, from_pandas=True),
        "dislike": dislike_E,
        "dismissal": ~dislike_E & (rng.random(len(user_E)) < 0.1),
        "like": ~dislike_E & (rng.random(len(user_E)) < 0.6),
    }
    return pa.table(columns | (feedback(user_E, item_E, rng) if feedback else {}))


def items():
    """The item table: clusters and creators in no order."""
    rng = np.random.default_rng(1)
    return pa.table(
        {
            "item_id": 100 + np.arange(ITEMS),
            "creator_id": rng.integers(0, CREATORS, ITEMS),
            "cluster_ids": [[int(x)] for x in rng.integers(0, CLUSTERS, ITEMS)],
        }
    )


def untrained(catalogue: Catalogue, config: Config = CONFIG, seed: int = 0) -> Trained:
    """Random parameters of size 1, so that scores differ."""
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    config = dataclasses.replace(config, train=TrainConfig(seed=seed))
    model = Recommender(config.model, catalogue)
    trainer = Trainer(config, model, catalogue.train_count_V, 1, mesh)
    return Trained(config, catalogue, model, trainer.init(), 0, mesh)
