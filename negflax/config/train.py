"""Settings of optimizers, of a run's length and checkpoints, and of devices."""

from __future__ import annotations

import dataclasses
from typing import Literal

from negflax.config.kinds import Count, Natural, NotNegative, Share, UpToOne


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Optax for the dense parameters, sparse row updates for the tables.

    Attributes:
      dense: `adam`, `adagrad` or `sgd`.
      tables: sparse, exact on merged duplicate rows: `rowwise_adagrad` (one accumulator a row),
        `adagrad`, `sgd`, `momentum`, `lazy_adam`, `rowwise_adam` (another optimizer than Adam each:
        docs/tables.md); or Optax on every row, for tables of at most 200,000 rows: `dense_adagrad`,
        `dense_adam`.
      table_dtype: of the tables' rows: `model` (as model.dtype) or `bfloat16`, half the memory,
        rounded stochastically; slots and arithmetic stay in model.dtype.
      learning_rate: peak rate of the dense parameters.
      table_learning_rate: peak rate of the tables.
      table_weight_decay: decoupled weight decay of the touched rows: they shrink by rate · decay.
      momentum: μ of `momentum`, β₁ of every Adam.
      adam_b2: β₂ of every Adam.
      warmup_steps: linear warm-up from 0.
      schedule: `constant`, `linear` or `cosine` decay to `final_fraction` of the peak.
      final_fraction: what is left of the rate at the last step.
      clip_norm: bound on the global norm over dense parameters and touched rows; 0 is off.
      clip_value: then a bound on each element of these gradients; 0 is off.
      adagrad_init: first value of Adagrad's accumulators.
    """

    dense: Literal["adam", "adagrad", "sgd"] = "adam"
    tables: Literal[
        "rowwise_adagrad",
        "adagrad",
        "sgd",
        "momentum",
        "lazy_adam",
        "rowwise_adam",
        "dense_adagrad",
        "dense_adam",
    ] = "rowwise_adagrad"
    table_dtype: Literal["model", "bfloat16"] = "model"
    learning_rate: NotNegative = 2e-3
    table_learning_rate: NotNegative = 0.1
    table_weight_decay: NotNegative = 0.0
    momentum: Share = 0.9
    adam_b2: Share = 0.98
    warmup_steps: Natural = 50
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    final_fraction: UpToOne = 0.05
    clip_norm: NotNegative = 1.0
    clip_value: NotNegative = 0.0
    adagrad_init: NotNegative = 1e-7


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Length of training, validation and checkpoints.

    Attributes:
      seed: of parameters, candidates and dropout.
      epochs: passes over the training events; used when `steps` is 0.
      steps: training steps; 0 means by `epochs`.
      eval_every: steps between validations; 0 switches validation off.
      checkpoint_every: steps between checkpoints; 0 leaves it to the minutes.
      checkpoint_minutes: minutes between checkpoints, besides those by steps; 0 is off. Every
        validation and the last step save as well.
      keep_latest: newest checkpoints that are kept; the best one is kept besides.
      metric: validation metric that names the best checkpoint and drives patience.
      patience: validations without a new best, after the warm-ups, before training stops; 0 is off.
      refit: after the best step is known, train anew on training + validation events for that many
        steps, in <workdir>/refit (docs/method.md §5.4).
      log_every: steps between lines of progress and metrics.
      max_skipped: steps in a row whose loss or gradient is not finite; each is skipped, and after
        so many training stops.
      splits: which events train: (`train`,) or (`train`, `valid`).
      loggers: services that get the metrics as well: `wandb`, `mlflow` (extra `loggers`).
    """

    seed: Natural = 0
    epochs: NotNegative = 5.0
    steps: Natural = 0
    eval_every: Natural = 200
    checkpoint_every: Natural = 200
    checkpoint_minutes: NotNegative = 0.0
    keep_latest: Count = 2
    metric: str = "ndcg_p@10"
    patience: Natural = 0
    refit: bool = False
    log_every: Count = 50
    max_skipped: Count = 10
    splits: tuple[Literal["train", "valid"], ...] = ("train",)
    loggers: tuple[Literal["wandb", "mlflow"], ...] = ()


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices. Batches are split over all of them, and by default the rows of tables as well.

    Attributes:
      data: devices along `data`; 0 means all that `table` leaves.
      table: devices along `table`.
      rows: axes that the rows of tables are sharded over, any of `data`, `table`; along an axis
        that is left out, devices hold copies.
      lookup: how rows reach the devices that need them: `psum` (every device gets the rows that
        all ask for), `all_to_all` (each gets its own from their owners) or `auto`, whichever costs
        less (negflax/tables/all_to_all.py, `form`).
    """

    data: Natural = 0
    table: Count = 1
    rows: tuple[Literal["data", "table"], ...] = ("data", "table")
    lookup: Literal["auto", "psum", "all_to_all"] = "auto"
