"""Settings that suit your own event log: shared by `negflax.fit` and configs/event_log.py."""

from __future__ import annotations

import dataclasses

from negflax.config.config import Config
from negflax.config.data import BatchConfig, DataConfig, LabelConfig
from negflax.config.evaluate import EvalConfig
from negflax.config.loss import LossConfig
from negflax.config.model import ModelConfig
from negflax.config.train import OptimizerConfig, TrainConfig

# Numbers of events from which a log is of another size: what is set changes there.
MEDIUM = 50_000  # larger steps
LARGE = 2_000_000  # fewer epochs, sampled candidates, sparse updates: the defaults


def event_log_defaults(num_events: int = 0) -> Config:
    """The config for an event log with the signals `like` and `dislike`.

    Below `LARGE` it is tuned on ratings (docs/results.md): a GRU beside a sum over the history, no
    loss on what a user has already had, strong dropout and early stopping.

    Args:
      num_events: about how many events the log has; 0 means unknown, some thousand or more.
    """
    config = Config(
        name="event_log",
        data=DataConfig(source="event_log", path="my_events.csv"),
        labels=LabelConfig(positive=("like",), negative=("dislike",)),
        batch=BatchConfig(rows=8, length=50),
        model=ModelConfig(
            encoder="gru_memory",
            hidden=64,
            embedding=64,
            features=("dislike",),
            dropout_input=0.5,
            dropout_output=0.5,
        ),
        loss=LossConfig(omega=1.0, positives_only_steps=100, ramp_steps=50, exclude_seen=True),
        optimizer=OptimizerConfig(
            tables="lazy_adam",  # with a full softmax that is Adam, and no table is too large
            learning_rate=2e-3,
            table_learning_rate=2e-3,
            final_fraction=0.02,
        ),
        train=TrainConfig(epochs=20.0, eval_every=50, checkpoint_every=50, patience=10),
        eval=EvalConfig(ks=(10,), history=200),
    )
    if num_events < MEDIUM:
        return config
    if num_events < LARGE:
        return dataclasses.replace(
            config,
            batch=BatchConfig(rows=16, length=100),
            optimizer=dataclasses.replace(
                config.optimizer, learning_rate=5e-3, table_learning_rate=5e-3
            ),
        )
    return dataclasses.replace(
        config,
        batch=BatchConfig(),
        model=ModelConfig(),
        loss=LossConfig(),
        optimizer=OptimizerConfig(),
        train=TrainConfig(patience=10),
    )
