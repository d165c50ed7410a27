"""The whole training step of benchmarks/tables.py, on a catalogue of any size."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from negflax.config import Config, LossConfig, MeshConfig
from negflax.data import Batch, Catalogue
from negflax.mesh import make_mesh, split
from negflax.model import Recommender
from negflax.train.step import Trainer

ROWS, STEPS, CANDIDATES = 64, 128, 8192  # B, T, S
ITEMS = 8192  # distinct ones in the batch


def training_step(num_rows: int) -> Callable[[], None]:
    """A blocking call of the shipped model's step, D = 64, uniform candidates, one device."""
    items = num_rows - 1
    catalogue = Catalogue(
        item_ids=np.arange(items),
        creator_V=np.zeros(num_rows, np.int32),
        clusters_VC=np.zeros((num_rows, 1), np.int32),
        train_count_V=np.ones(num_rows, np.int64),
    )
    config = Config(loss=LossConfig(candidates="uniform", num_candidates=CANDIDATES))
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    model = Recommender(config.model, catalogue)
    trainer = Trainer(config, model, catalogue.train_count_V, 1_000_000, mesh)
    batch = jax.device_put(_batch(num_rows), split(mesh))
    state = [trainer.init()]

    def call() -> None:
        state[0], _ = trainer.step(state[0], batch)
        jax.block_until_ready(state[0])

    return call


def _batch(num_rows: int) -> Batch:
    rng = np.random.default_rng(0)
    known = 1 + rng.choice(num_rows - 1, ITEMS, replace=False)

    def code() -> np.ndarray:
        return rng.integers(0, 3, (ROWS, STEPS)).astype(np.int32)

    positive = (rng.random((ROWS, STEPS, 1)) < 0.6).astype(np.float32)
    return Batch(
        item_ids_BT=rng.choice(known, (ROWS, STEPS)).astype(np.int32),
        dislike_BT=code(),
        dwell_BT=code(),
        watch_ratio_BT=code(),
        gap_BT=code(),
        surface_BT=code(),
        dismissal_BT=code(),
        creator_BT=code() * 0,
        cluster_BT=code() * 0,
        reset_BT=np.arange(STEPS) == np.zeros((ROWS, 1)),
        label_ids_BTL=rng.choice(known, (ROWS, STEPS, 1)).astype(np.int32),
        positive_weight_BTL=positive,
        negative_weight_BTL=1 - positive,
    )
