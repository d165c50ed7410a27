"""A small data set and run for these tests."""

import dataclasses

import jax
import numpy as np

from negflax.config import (
    BatchConfig,
    Config,
    LossConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
)
from negflax.data import Catalogue, Sequences, StreamBatches
from negflax.mesh import make_mesh, split
from negflax.model import Recommender
from negflax.train.step import Trainer

CONFIG = Config(
    batch=BatchConfig(rows=8, length=12),
    model=ModelConfig(
        hidden=8, embedding=8, feature_dim=3, features=("dislike", "dwell", "creator", "cluster")
    ),
    loss=LossConfig(candidates="uniform", num_candidates=16, positives_only_steps=6, ramp_steps=3),
    optimizer=OptimizerConfig(warmup_steps=3),
    train=TrainConfig(steps=20, eval_every=5, checkpoint_every=5, log_every=2),
    mesh=MeshConfig(),
)


def changed(config=CONFIG, **sections):
    """The config with fields of sections replaced: changed(loss={"w": 2.0})."""
    new = {k: dataclasses.replace(getattr(config, k), **v) for k, v in sections.items()}
    return dataclasses.replace(config, **new)


def make_sequences(users=40, items=30, seed=0, reserved=0):
    """Random histories of 1 to 30 events; the last quarter of each is valid, then test."""
    rng = np.random.default_rng(seed)
    length = rng.integers(1, 31, users)
    offsets = np.append(0, np.cumsum(length))
    events = offsets[-1]
    within = np.arange(events) - np.repeat(offsets[:-1], length)
    share = within / np.repeat(length, length)
    item = rng.integers(1, items + 1, events).astype(np.int32)
    positive = (rng.random(events) < 0.5).astype(np.float32)
    negative = ((rng.random(events) < 0.4) * (1 - positive)).astype(np.float32)

    def code(values):
        return rng.integers(0, values, events).astype(np.uint8)

    catalogue = Catalogue(
        item_ids=np.arange(100, 100 + items),
        creator_V=np.append(0, rng.integers(1, 7, items)).astype(np.int32),
        clusters_VC=np.append(0, rng.integers(1, 5, items)).astype(np.int32)[:, None],
        train_count_V=np.append(0, np.bincount(item, minlength=items + 1)[1:]),
        reserved_rows=reserved,
    )
    return Sequences(
        catalogue=catalogue,
        user_ids=np.arange(users),
        offsets_U1=offsets,
        item_E=item,
        dislike_E=code(3),
        dwell_E=code(5),
        watch_ratio_E=code(5),
        gap_E=code(5),
        surface_E=code(3),
        time_E=np.arange(events, dtype=np.int64),
        positive_weight_E=positive,
        negative_weight_E=negative,
        split_E=np.where(share < 0.75, 0, np.where(share < 0.875, 1, 2)).astype(np.uint8),
        report={},
    )


def make_trainer(config, sequences, devices=1, steps=20):
    """A trainer on the first devices, and its batches."""
    mesh = make_mesh(config.mesh, jax.devices()[:devices])
    model = Recommender(config.model, sequences.catalogue)
    trainer = Trainer(config, model, sequences.catalogue.train_count_V, steps, mesh)
    batches = StreamBatches(sequences, config.batch, config.labels, ("train",))
    return trainer, batches


def run_steps(trainer, batches, steps, state=None, start=0):
    """(state, metrics of each step)."""
    state = trainer.init() if state is None else state
    history = []
    for i in range(start, start + steps):
        state, metrics = trainer.step(state, jax.device_put(batches.batch(i), split(trainer.mesh)))
        history.append(jax.device_get(metrics))
    return jax.device_get(state), history


def real_rows(state, model):
    """The state without the rows that only pad a table to the device count."""
    tables = {
        name: jax.tree.map(lambda x, v=model.tables[name].num_rows: x[:v], table)
        for name, table in state["tables"].items()
    }
    return state | {"tables": tables}
