"""The models of a live experiment: a positives-only model, then each arm's own trainings.

Shapes: U users, T steps of a history, D width, H encoder width.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from negflax.allocator import return_memory
from negflax.calibration import counts_of
from negflax.calibration.counts_on_device import Counted
from negflax.calibration.fit_calibration import calibrate
from negflax.config import Config, ConfigError, ModelConfig
from negflax.data import Batch, Catalogue, Sequences, StreamBatches, history_batch
from negflax.evaluate.baselines.personal_scores import ALONE, CALIBRATED
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.simulate.arm import Arm, arm_of, encode
from negflax.simulate.live.arms import ARMS, CONTROL, DISLIKES, INPUT, ArmSpec, config_of
from negflax.simulate.live.live_settings import LiveSettings, retraining
from negflax.simulate.live.user_log import Log, sequences_of
from negflax.simulate.personal_terms import personal_terms
from negflax.simulate.terms_kept import with_terms
from negflax.train.checkpoint import write_config
from negflax.train.loop import planned_steps, train
from negflax.train.restore import Trained, save_catalogue
from negflax.train.state import State, grafted
from negflax.train.step import Trainer

ENCODED = 512  # number of users whose histories are encoded together


class Models:
    """Creates and caches the models, trainers and initial states of the arms of one replicate."""

    def __init__(
        self, config: Config, settings: LiveSettings, log: Log, catalogue: Catalogue, workdir: Path
    ):
        """Creates an empty cache.

        Args:
          config: config of the run.
          settings: settings of the experiment.
          log: log of the logging platform.
          catalogue: items of the world.
          workdir: folder for the positives-only runs.
        """
        self._config, self._settings, self._log = config, settings, log
        self._catalogue, self._workdir = catalogue, workdir
        self._mesh = make_mesh(config.mesh, jax.devices()[:1])
        self._models: dict[ModelConfig, Recommender] = {}
        self._base: dict[Config, State] = {}
        self._first: dict[Config, State] = {}
        self._trainers: dict[Config, Trainer] = {}

    def model(self, config: Config) -> Recommender:
        """Returns the model, the same object for equal settings, so that it is compiled once."""
        return self._models.setdefault(config.model, Recommender(config.model, self._catalogue))

    def base(self, sees: bool) -> State:
        """Returns the positives-only state, trained on the log of the logging platform.

        Args:
          sees: whether past dislikes are an input, of the encoder if it has the feature at all.
        """
        config = config_of(self._config, ARMS["input_only" if sees else CONTROL])
        if config not in self._base:
            read = INPUT in config.model.features
            folder = self._workdir / ("sees_dislikes" if read else "no_dislikes")
            batches = self._batches(config, self.sequences(self._log, config))
            steps = planned_steps(config, batches)
            trainer = self._trainer(config, steps)
            write_config(folder, config)
            save_catalogue(folder, self._catalogue)
            self._base[config] = train(config, trainer, batches, steps, folder).state
        return self._base[config]

    def first(self, spec: ArmSpec) -> tuple[Config, State]:
        """Returns the config of the arm's trainings, and its state before the first day.

        Arms that differ only in their filter or surface start with the same state.
        """
        base = self.base(spec.sees)
        config = config_of(self._config, spec)
        config = retraining(config, self._settings, begun=int(base["step"]))
        if config not in self._first:
            state = jax.tree.map(jnp.copy, base)
            if config.model.behaviour_head:
                state = grafted(base, self._trainer(config, 1).init())
            sequences, steps = self.sequences(self._log, config), self._settings.first_steps
            self._first[config] = self.retrained(config, state, sequences, steps)
        return config, jax.tree.map(jnp.copy, self._first[config])

    def sequences(self, log: Log, config: Config) -> Sequences:
        """Returns the log as training data of an arm."""
        return sequences_of(log, self._config.world.num_users, self._catalogue, config.labels)

    def retrained(self, config: Config, state: State, sequences: Sequences, steps: int) -> State:
        """Trains for more steps and returns the new state; the buffers of `state` are donated."""
        step, trainer = int(state["step"]), self._trainer(config, steps)
        batches = self._batches(config, sequences)
        for i in range(step, step + steps):
            state, _ = trainer.step(state, batches.batch(i))
        return state

    def arm(self, spec: ArmSpec, config: Config, state: State, log: Log) -> Arm:
        """Returns the arrays of a state that serve users.

        Scores of an arm with counts are calibrated on its log; with
        config.calibration.after_training, those of all arms that see dislikes. Item rates are those
        of the arm's log, in which dislikes are the negatives.
        """
        step = int(state["step"])
        trained = Trained(config, self._catalogue, self.model(config), state, step, self._mesh)
        if spec.added.counts or (config.calibration.after_training and spec.sees):
            trained = self._calibrated(trained, log, spec.labels_afterwards)
        terms = None
        if spec.added not in (ALONE, CALIBRATED):
            labels = dataclasses.replace(config.labels, negative=DISLIKES)
            rated = self.sequences(log, dataclasses.replace(config, labels=labels))
            terms = personal_terms(trained, rated, spec.added)
        return arm_of(trained, has_dwell=True, terms=terms)

    def _calibrated(self, trained: Trained, log: Log, labels: bool) -> Trained:
        """With dislikes as labels of the calibration, or as the arm was trained."""
        config, sums = trained.config, trained.state["weight_sums"]
        settings = config.calibration
        if labels:
            settings = dataclasses.replace(settings, omega=config.loss.omega)
            rules = dataclasses.replace(config.labels, negative=DISLIKES)
            config = dataclasses.replace(config, labels=rules)
        try:
            trained = dataclasses.replace(trained, config=config)
            found = calibrate(trained, self.sequences(log, config), sums, settings)
            calibration = with_terms(found)
        except ConfigError as error:  # of some objectives
            logging.warning("an arm is served without a calibration: %s", error)
            return trained
        return_memory()  # else some hundreds of MB more after each training
        return dataclasses.replace(trained, calibration=calibration)

    def _batches(self, config: Config, sequences: Sequences) -> StreamBatches:
        return StreamBatches.of(config, sequences, ("train",))

    def _trainer(self, config: Config, steps: int) -> Trainer:
        if config not in self._trainers:
            counts = self._catalogue.train_count_V
            self._trainers[config] = Trainer(config, self.model(config), counts, steps, self._mesh)
        return self._trainers[config]


def read_histories(
    model: Recommender, arm: Arm, sequences: Sequences, length: int
) -> tuple[jax.Array, jax.Array]:
    """Returns (state_UD, cell_UH) of every user after the newest `length` events."""
    users = len(sequences.user_ids)
    found = []
    for first in range(0, users, ENCODED):
        user_B = np.minimum(np.arange(first, first + ENCODED), users - 1)
        end_B = sequences.offsets_U1[user_B + 1]
        found.append(_histories(model, arm, history_batch(sequences, end_B, user_B, length)))
    return tuple(jnp.concatenate(parts)[:users] for parts in zip(*found, strict=True))


def count_histories(arm: Arm, sequences: Sequences) -> Counted | None:
    """Returns the feedback counts of every user; None if the arm has no calibration."""
    if not arm.calibration:
        return None
    users, ends_U = np.arange(len(sequences.user_ids)), sequences.offsets_U1[1:]
    stats = {}
    for kind, one in arm.calibration.items():
        found = counts_of(sequences, users, ends_U, np.asarray(one.kind_V))
        dense_UKF = np.zeros((len(users), len(one.slot_K), found.stats_PF.shape[1]), np.int32)
        dense_UKF[found.user_P, found.kind_P] = found.stats_PF
        stats[kind] = jnp.asarray(dense_UKF)
    return Counted(stats, jnp.asarray(found.events_R, jnp.int32))


@functools.partial(jax.jit, static_argnums=0)
def _histories(model: Recommender, arm: Arm, batch: Batch) -> tuple[jax.Array, jax.Array]:
    return encode(model, arm, batch, None)
