"""Random logs, and models with random or hand-set parameters: no training."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from branching import CLUSTERS, CREATORS, ITEMS, SETTINGS, USERS, K

from negflax.config import Config, MeshConfig, ModelConfig
from negflax.data import Catalogue, Sequences
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.simulate.responsiveness import simulate
from negflax.train.restore import Trained
from negflax.train.step import Trainer


@pytest.fixture(scope="session")
def log() -> Sequences:
    """Histories of random items, all as long as a branch needs or a little longer."""
    rng = np.random.default_rng(0)
    length_U = rng.integers(K, K + 4, USERS)
    offsets_U1 = np.append(0, np.cumsum(length_U))
    events = offsets_U1[-1]
    item_E = rng.integers(1, ITEMS + 1, events).astype(np.int32)
    catalogue = Catalogue(
        item_ids=np.arange(100, 100 + ITEMS),
        creator_V=np.append(0, 1 + rng.integers(0, CREATORS, ITEMS)).astype(np.int32),
        clusters_VC=np.append(0, 1 + rng.integers(0, CLUSTERS, ITEMS)).astype(np.int32)[:, None],
        train_count_V=np.append(0, np.bincount(item_E, minlength=ITEMS + 1)[1:]),
        duration_V=np.append(np.nan, rng.uniform(5_000, 60_000, ITEMS)),
    )
    codes = {
        f"{name}_E": rng.integers(1, top, events).astype(np.uint8)
        for name, top in (
            ("dislike", 3),
            ("dwell", 20),
            ("watch_ratio", 12),
            ("gap", 10),
            ("surface", 3),
            ("dismissal", 3),
        )
    }
    return Sequences(
        catalogue=catalogue,
        user_ids=np.arange(USERS),
        offsets_U1=offsets_U1,
        item_E=item_E,
        time_E=np.arange(events, dtype=np.int64),
        positive_weight_E=(rng.random(events) < 0.5).astype(np.float32),
        negative_weight_E=np.zeros(events, np.float32),
        split_E=np.zeros(events, np.uint8),
        report={"source": "random"},
        **codes,
    )


@pytest.fixture(scope="session")
def arm(log):
    """A function (features, composed) → a run with random parameters."""

    def make(features=("dislike", "dwell", "gap", "creator"), composed=()) -> Trained:
        model = ModelConfig(
            hidden=8, embedding=8, feature_dim=3, features=features, composed=composed
        )
        config = dataclasses.replace(Config(), model=model)
        mesh = make_mesh(MeshConfig(), jax.devices()[:1])
        recommender = Recommender(model, log.catalogue)
        state = Trainer(config, recommender, log.catalogue.train_count_V, 1, mesh).init()
        # The encoder adds to what it was fed: random models then answer to their input at all.
        dense = jax.tree.map(lambda x: 3 * x, state["dense"])
        return Trained(config, log.catalogue, recommender, state | {"dense": dense}, 0, mesh)

    return make


@pytest.fixture(scope="session")
def walks(arm, log):
    """What two arms listed: with and without the dislike bit, on own and on shared trajectories."""
    settings = {
        where: dataclasses.replace(SETTINGS, plan=dataclasses.replace(SETTINGS.plan, own=own))
        for where, own in (("shared", False), ("own", True))
    }
    return {
        (name, where): simulate(arm(features=features), log, one)
        for name, features in (("sees", ("dislike", "dwell")), ("blind", ("dwell", "gap")))
        for where, one in settings.items()
    }
