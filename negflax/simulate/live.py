"""Live experiments: every arm serves its users, retrains on its own log, and serves again.

The loop of an arm is `run_arm`: retrain → read the users' histories anew → days, each of them one
compiled program → retrain. All arms begin with the same log, made by the logging platform, the same
users and luck, and with one positives-only model for all that see dislikes, one for the others.

Shapes: U users, T steps of a history, D width, H encoder width.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from negflax.config import Config
from negflax.data import Batch, Catalogue, Sequences, StreamBatches, history_batch
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.simulate import live_day, live_log, live_metrics
from negflax.simulate.live_arms import ARMS, config_of
from negflax.simulate.live_day import Live, Plan, play_day
from negflax.simulate.live_log import Log
from negflax.simulate.pairs import arm_of
from negflax.simulate.walk import Arm, encode
from negflax.train.checkpoint import write_config
from negflax.train.loop import planned_steps, train
from negflax.train.restore import Trained, save_catalogue
from negflax.train.state import State
from negflax.train.step import Trainer
from negflax.world import Parameters, Population, draw_population, mechanisms
from negflax.world.population import on_host, world_key

ENCODED = 512  # users whose histories are read together


@dataclasses.dataclass(frozen=True)
class Settings:
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
      seed: of luck, split and bootstrap.
    """

    days: int = 14
    log_days: int = 30
    first_steps: int = 200
    retrain_every: int = 4
    retrain_steps: int = 50
    retrain_rate: float = 0.3
    measuring_steps: int = 20
    split: bool = False
    seed: int = 0


class Start(NamedTuple):
    """What all arms have in common.

    Attributes:
      config: the run's.
      settings: the experiment's.
      p: mechanisms of the world.
      population: its users and items.
      catalogue: its items.
      live: users in the last evening of the logging platform.
      log: of the logging platform.
      key: of luck.
    """

    config: Config
    settings: Settings
    p: Parameters
    population: Population
    catalogue: Catalogue
    live: Live
    log: Log
    key: jax.Array


def prepare(config: Config, settings: Settings) -> Start:
    """Draws the world and lets the logging platform serve it."""
    p = mechanisms(config.world)
    population = draw_population(config.world, p)
    with on_host():
        key = jax.random.fold_in(world_key(config.world.seed), 3)
        key = jax.random.fold_in(key, settings.seed)
        width = config.model.embedding, config.model.hidden
        live, logs = live_day.arrive(key, population, p, width), []
        serve = functools.partial(play_day, key, p=p, plan=Plan(), model=None)
        for day in range(settings.log_days):
            live, visits = serve(jnp.int32(day), population, live, None)
            logs.append(live_log.visits_of(day, visits))
    log = live_log.joined(logs)
    played_I = np.bincount(log["item"], minlength=config.world.num_items)
    catalogue = live_log.catalogue_of(population.items, played_I)
    return Start(config, settings, p, population, catalogue, live, log, key)


class Models:
    """Models, trainers and positives-only parameters, each made once."""

    def __init__(self, start: Start, workdir: Path):
        """`workdir` keeps the positives-only runs, as folders of trained runs."""
        self._start, self._workdir = start, workdir
        self._mesh = make_mesh(start.config.mesh, jax.devices()[:1])
        self._models: dict[Any, Recommender] = {}
        self._base: dict[bool, State] = {}
        self._trainers: dict[Config, Trainer] = {}

    def model(self, config: Config) -> Recommender:
        """One object for equal settings: what was compiled for it serves again."""
        return self._models.setdefault(config.model, Recommender(config.model, self._catalogue))

    @property
    def _catalogue(self) -> Catalogue:
        return self._start.catalogue

    def base(self, sees: bool) -> State:
        """Positives alone, on the log of the logging platform, with or without the dislike bit."""
        if sees not in self._base:
            start = self._start
            config = config_of(start.config, ARMS["input_only" if sees else "no_signal"])
            folder = self._workdir / ("sees_dislikes" if sees else "no_dislikes")
            sequences = self.sequences(start.log, config)
            batches = StreamBatches(sequences, config.batch, config.labels, ("train",))
            steps = planned_steps(config, batches)
            trainer = self._trainer(config, steps)
            write_config(folder, config)
            save_catalogue(folder, self._catalogue)
            self._base[sees] = train(config, trainer, batches, steps, folder).state
        return jax.tree.map(jnp.copy, self._base[sees])

    def sequences(self, log: Log, config: Config) -> Sequences:
        """The log as an arm's training data."""
        users = self._start.config.world.num_users
        return live_log.sequences_of(log, users, self._catalogue, config.labels)

    def retrained(self, config: Config, state: State, sequences: Sequences, steps: int) -> State:
        """The arm's model after so many more steps."""
        step, trainer = int(state["step"]), self._trainer(config, steps)
        batches = StreamBatches(sequences, config.batch, config.labels, ("train",))
        for i in range(step, step + steps):
            state, _ = trainer.step(state, batches.batch(i))
        return state

    def arm(self, config: Config, state: State) -> Arm:
        """The arrays that serve."""
        trained = Trained(config, self._catalogue, self.model(config), state, 0, self._mesh)
        return arm_of(trained, has_dwell=True)

    def _trainer(self, config: Config, steps: int) -> Trainer:
        if config not in self._trainers:
            counts = self._catalogue.train_count_V
            self._trainers[config] = Trainer(config, self.model(config), counts, steps, self._mesh)
        return self._trainers[config]


def retraining(config: Config, settings: Settings, begun: int) -> Config:
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
            optimizer, schedule="constant", learning_rate=rate * optimizer.learning_rate,
            table_learning_rate=rate * optimizer.table_learning_rate,
        ),
    )  # fmt: skip


def run_arm(
    name: str, surface: str, share: tuple[int, int], start: Start, models: Models,
    told: Callable[[int], None] = lambda day: None,
) -> live_metrics.Sums:  # fmt: skip
    """Lets an arm serve its users.

    Args:
      name: of the arm.
      surface: `feed` or `home`.
      share: (its number, how many arms share the users), for Settings.split.
      start: what the arms have in common.
      models: likewise.
      told: hears of every day that is over.
    """
    spec, settings, p = ARMS[name], start.settings, start.p
    state = models.base(spec.sees)
    config = retraining(config_of(start.config, spec), settings, int(state["step"]))
    model, plan = models.model(config), Plan(surface=surface, block=spec.block)
    member_U = members(start, share)
    world = start.live.world
    live = start.live._replace(world=world._replace(present_U=world.present_U & member_U))
    log, first = start.log, settings.log_days
    for day in range(settings.days):
        if day % settings.retrain_every == 0:
            sequences = models.sequences(log, config)
            steps = settings.retrain_steps if day else settings.first_steps
            state = models.retrained(config, state, sequences, steps)
            arm = models.arm(config, state)
            state_UD, cell_UH = read_histories(model, arm, sequences, config.eval.history)
            live = live._replace(state_UD=state_UD, cell_UH=cell_UH)
        live, visits = play_day(
            start.key, jnp.int32(first + day), start.population, live, arm,
            p=p, plan=plan, model=model,
        )  # fmt: skip
        log = live_log.joined([log, live_log.visits_of(first + day, visits)])
        told(day)
    creator_I, cluster_I = (np.asarray(getattr(start.population.items, f"{kind}_I"))
                            for kind in ("creator", "cluster"))  # fmt: skip
    return live_metrics.measure(log, first, settings.days, creator_I, cluster_I, member_U)


def members(start: Start, share: tuple[int, int]) -> np.ndarray:
    """(U,) bool: the users of an arm."""
    users, (number, count) = start.config.world.num_users, share
    if not start.settings.split:
        return np.ones(users, bool)
    order_U = np.random.default_rng(start.settings.seed).permutation(users)
    return order_U % count == number


def read_histories(
    model: Recommender, arm: Arm, sequences: Sequences, length: int
) -> tuple[jax.Array, jax.Array]:
    """(state_UD, cell_UH) of every user after the newest `length` events."""
    users = len(sequences.user_ids)
    found = []
    for first in range(0, users, ENCODED):
        user_B = np.minimum(np.arange(first, first + ENCODED), users - 1)
        end_B = sequences.offsets_U1[user_B + 1]
        found.append(_histories(model, arm, history_batch(sequences, end_B, user_B, length)))
    return tuple(jnp.concatenate(parts)[:users] for parts in zip(*found, strict=True))


@functools.partial(jax.jit, static_argnums=0)
def _histories(model: Recommender, arm: Arm, batch: Batch) -> tuple[jax.Array, jax.Array]:
    return encode(model, arm, batch, None)
