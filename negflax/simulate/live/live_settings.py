"""Settings of a live experiment, and the configs of its replicates and retrainings."""

from __future__ import annotations

import dataclasses

from negflax.config import Config


@dataclasses.dataclass(frozen=True)
class LiveSettings:
    """Settings of the experiment; those of the world are config.world.

    Attributes:
      days: length of the experiment in days.
      log_days: days before it, in which the logging platform serves the feed.
      first_steps: steps of each arm's training with its own objective before the first day, on the
        log of the logging platform.
      retrain_every: days between retrainings, each on the whole log of the arm.
      retrain_steps: steps of a retraining.
      retrain_rate: learning rates of these trainings, as a fraction of the peak rates.
      measuring_steps: steps without a negative term, at the start, in which the mean p of the
        negative labels is measured (config.loss.weight_policy); a ramp of as many steps follows.
      split: whether each arm serves a random share of the users, as in a real live experiment;
        otherwise each serves all users, in its own copy of the world.
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
    """Returns the config of a replicate: other users and items, other random numbers throughout."""
    return dataclasses.replace(
        config,
        world=dataclasses.replace(config.world, seed=config.world.seed + seed),
        batch=dataclasses.replace(config.batch, seed=config.batch.seed + seed),
        train=dataclasses.replace(config.train, seed=config.train.seed + seed),
    )


def retraining(config: Config, settings: LiveSettings, begun: int) -> Config:
    """Returns the config of an arm's trainings after step `begun`, with constant learning rates."""
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
