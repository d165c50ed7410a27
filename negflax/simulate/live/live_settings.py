"""Sizes of a live experiment, its replicates, and how its models are trained further."""

from __future__ import annotations

import dataclasses

from negflax.config import Config


@dataclasses.dataclass(frozen=True)
class LiveSettings:
    """Sizes of the experiment; the world's are config.world.

    Attributes:
      days: of the experiment.
      log_days: before it, in which the logging platform serves the feed.
      first_steps: of the training before the first day, on the logging platform's log: there an
        arm learns its objective. The same for every arm.
      retrain_every: days until the next training, on all of the arm's log.
      retrain_steps: of each of these, the same for every arm.
      retrain_rate: of the peak learning rates, in these trainings.
      measuring_steps: the first of all, without a negative term, in which the mean p of the
        negative labels is measured (config.loss.weight_policy); the ramp comes behind.
      split: every arm serves a random share of the users, as a live experiment does; else each
        serves all of them, in a copy of the world of its own.
    """

    days: int = 14
    log_days: int = 30
    first_steps: int = 200
    retrain_every: int = 4
    retrain_steps: int = 50
    retrain_rate: float = 0.3
    measuring_steps: int = 20
    split: bool = False


def replicate(config: Config, seed: int) -> Config:
    """The experiment anew: other users, items and luck, other start values, another order."""
    return dataclasses.replace(
        config,
        world=dataclasses.replace(config.world, seed=config.world.seed + seed),
        batch=dataclasses.replace(config.batch, seed=config.batch.seed + seed),
        train=dataclasses.replace(config.train, seed=config.train.seed + seed),
    )


def retraining(config: Config, settings: LiveSettings, begun: int) -> Config:
    """The config of an arm's trainings, which go on at step `begun` with a constant rate."""
    optimizer, rate = config.optimizer, settings.retrain_rate
    return dataclasses.replace(
        config,
        loss=dataclasses.replace(
            config.loss,
            positives_only_steps=begun + settings.measuring_steps,
            ramp_steps=settings.measuring_steps,
        ),
        optimizer=dataclasses.replace(
            optimizer,
            schedule="constant",
            learning_rate=rate * optimizer.learning_rate,
            table_learning_rate=rate * optimizer.table_learning_rate,
        ),
    )
