"""All settings of one run, and its config as plain dicts."""

from __future__ import annotations

import dataclasses
from typing import Any

from negflax.config.data import BatchConfig, DataConfig, LabelConfig, WorldConfig
from negflax.config.evaluate import EvalConfig
from negflax.config.feedback_calibration import CalibrationConfig
from negflax.config.loss import LossConfig
from negflax.config.model import ModelConfig
from negflax.config.train import MeshConfig, OptimizerConfig, TrainConfig

FORMAT_VERSION = 2  # of the checkpoint layout and the config that is stored beside it


@dataclasses.dataclass(frozen=True)
class Config:
    """One run. Sections: see their classes.

    Attributes:
      name: a word for tables and plots.
      data: event source and split.
      world: the synthetic platform.
      labels: feedback → labels.
      batch: training batches.
      model: encoder and item vectors.
      loss: objective and candidates.
      optimizer: optimizers and schedule.
      train: length, validation, checkpoints.
      eval: ranking evaluation.
      calibration: correction of the scores after training.
      mesh: devices.
    """

    name: str = "negflax"
    data: DataConfig = DataConfig()
    world: WorldConfig = WorldConfig()
    labels: LabelConfig = LabelConfig()
    batch: BatchConfig = BatchConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    mesh: MeshConfig = MeshConfig()


def to_dict(config: Config) -> dict[str, Any]:
    """The config as nested plain dicts, ready for JSON."""
    return dataclasses.asdict(config)


def defaults(config: Config | None = None) -> Any:
    """A config, by default the default one, as a ConfigDict for a file in configs/ to override.

    Needs ml_collections.
    """
    import ml_collections

    return ml_collections.ConfigDict(to_dict(config or Config()))
