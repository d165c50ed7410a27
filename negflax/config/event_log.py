"""Settings that suit your own event log: shared by `negflax.fit` and configs/event_log.py."""

from __future__ import annotations

import dataclasses

from negflax.config.data import BatchConfig, DataConfig, LabelConfig
from negflax.config.evaluate import EvalConfig
from negflax.config.loss import LossConfig
from negflax.config.model import ModelConfig
from negflax.config.run import Config
from negflax.config.train import TrainConfig

LARGE = 1_000_000  # events; from here on batches, widths and warm-ups are those of the defaults


def event_log_defaults(num_events: int = 0) -> Config:
    """The config for an event log with the signals `like` and `dislike`.

    Args:
      num_events: about how many events the log has; 0 means unknown, some thousand or more.
    """
    config = Config(
        name="event_log",
        data=DataConfig(source="event_log", path="my_events.csv"),
        labels=LabelConfig(positive=("like",), negative=("dislike",)),
        batch=BatchConfig(rows=8, length=50),
        model=ModelConfig(hidden=32, embedding=32),
        loss=LossConfig(positives_only_steps=100, ramp_steps=50),
        train=TrainConfig(epochs=20.0, eval_every=50, checkpoint_every=50),
        eval=EvalConfig(ks=(10,)),
    )
    if num_events < LARGE:
        return config
    return dataclasses.replace(
        config, batch=BatchConfig(), model=ModelConfig(), loss=LossConfig(), train=TrainConfig()
    )
