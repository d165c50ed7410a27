"""Training for benchmarks/inside_training.py: every variant of an arm, over training seeds.

Shapes: N labels of the validation period.
"""

from __future__ import annotations

import dataclasses
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from benchmarks import _inside_models as models
from negflax.calibration import Calibration, newton
from negflax.calibration.kind_counts import kind_of_items
from negflax.calibration.kind_terms import SCALARS, START, Scales
from negflax.calibration.label_facts import label_facts
from negflax.calibration.labelled_states import Model, labelled_states
from negflax.calibration.select_terms import calibrate, weights_of
from negflax.config import CalibrationConfig, Config
from negflax.data import Sequences, StreamBatches
from negflax.mesh import copied, make_mesh
from negflax.model import Recommender
from negflax.train import step
from negflax.train.loop import planned_steps
from negflax.train.restore import Trained
from negflax.train.state import init_state
from negflax.train.step import Trainer

VARIANTS = {
    "alone": "the arm alone",
    "after": "calibrated after training",
    "inside": "scalars trained with the encoder",
    "refits": "scalars refitted in every epoch",
    "memory": "memory of disliked items",
    "sign_head": "auxiliary head for the sign",
}
KIND = "cluster"
REFIT_LABELS = 20_000


@dataclasses.dataclass(frozen=True)
class Run:
    """One trained variant.

    Attributes:
      trained: the recommender, with its calibration if it has one.
      w: weight of dislikes that the training of the arm alone has frozen.
      losses_N: objective of the labels of the validation period at that weight.
      user_N: their users.
    """

    trained: Trained
    w: float
    losses_N: np.ndarray
    user_N: np.ndarray


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the variants.

    Attributes:
      rate: peak learning rate of the scalars that are trained by the optimizer.
      sign_weight: weight of the auxiliary loss.
    """

    rate: float = 0.01
    sign_weight: float = 0.2


class Arm:
    """An arm in one world: its data, and one compiled step for each variant."""

    def __init__(self, config: Config, sequences: Sequences, settings: Settings):
        """Counts and models; nothing is trained."""
        calibration = dataclasses.replace(config.calibration, kinds=(KIND,))
        self.config = dataclasses.replace(config, calibration=calibration)
        self.sequences, self.settings, self.mesh = sequences, settings, make_mesh(config.mesh)
        self.batches = StreamBatches.of(config, sequences)
        self.counted = models.CountedBatches(self.batches, sequences)
        self.steps = planned_steps(config, self.batches)
        self.plain = Recommender(config.model, sequences.catalogue)
        memory = dataclasses.replace(config.model, encoder=models.DISLIKED_MEMORY)
        self.memory = Recommender(memory, sequences.catalogue)
        self._trainers: dict[str, Trainer] = {}

    def run(self, variant: str, seed: int, alone: Any = None) -> tuple[Run, Any]:
        """Trains one variant.

        Args:
          variant: of VARIANTS.
          seed: of training.
          alone: what was returned for `alone` and this seed: its states serve `after`, and its
            weight of dislikes holds for all variants. None for `alone` itself.

        Returns:
          The run, and the state at the end of training.
        """
        config = dataclasses.replace(
            self.config, train=dataclasses.replace(self.config.train, seed=seed)
        )
        sums = alone and alone[1]["weight_sums"]
        state = alone[1] if variant == "after" else self._trained(variant, config, sums)
        trained = self.as_trained(state, config, variant)
        sums = sums or state["weight_sums"]
        if variant in ("after", "refits"):
            found = calibrate(trained, self.sequences, sums)
            trained = dataclasses.replace(trained, calibration=found)
        if variant == "inside":
            values = {k: float(x) for k, x in models.scalars_of(state["dense"]).items()}
            trained = dataclasses.replace(trained, calibration=self._calibration(values))
        weights = weights_of(trained, sums)
        logging.info("%s, seed %d: w = %.0f, %s", variant, seed, weights.w, values_of(trained))
        return Run(trained, weights.w, *self._held_out(trained, weights)), jax.device_get(state)

    def as_trained(self, state: Any, config: Config, variant: str = "alone") -> Trained:
        """The recommender of a state, without what was trained beside it."""
        model = self.memory if variant == "memory" else self.plain
        tables = {name: {"rows": table["rows"]} for name, table in state["tables"].items()}
        state = {"dense": models.without_heads(state["dense"]), "tables": tables}
        state = jax.device_put(state, copied(self.mesh))
        config = dataclasses.replace(config, model=model.config)
        return Trained(config, self.sequences.catalogue, model, state, self.steps, self.mesh)

    def _calibration(self, values: dict[str, float]) -> Calibration:
        return Calibration("", Scales.of(self.config.calibration), {KIND: values})

    def _trainer(self, variant: str) -> Trainer:
        if variant not in self._trainers:
            self._trainers[variant] = self._new_trainer(variant)
        return self._trainers[variant]

    def _new_trainer(self, variant: str) -> Trainer:
        items, config = self.sequences.catalogue, self.config
        more = items.train_count_V, self.steps, self.mesh
        if variant in ("inside", "refits"):
            scales = Scales.of(config.calibration)
            model = models.CountingModel(config.model, items, scales)
            # The loss takes the width of states from the config.
            wide = dataclasses.replace(config.model, embedding=config.model.embedding + model.kinds)
            rate = self.settings.rate if variant == "inside" else 0.0
            return models.ScalarTrainer(rate, dataclasses.replace(config, model=wide), model, *more)
        if variant == "sign_head":
            return Trainer(config, models.SignModel(config.model, items), *more)
        model = self.memory if variant == "memory" else self.plain
        return Trainer(dataclasses.replace(config, model=model.config), model, *more)

    def _trained(self, variant: str, config: Config, sums: Any) -> Any:
        """The state at the end of training; from the warm-up on with the arm's weight, if given."""
        trainer = self._trainer(variant)
        state = init_state(
            config, trainer.model, trainer.dense_optimizer, trainer.row_optimizer, self.mesh
        )
        counted = isinstance(trainer.model, models.CountingModel)
        if variant == "refits":
            state = self._with_scalars(state, {})
        batches = self.counted if counted else self.batches
        loss = models.with_sign_loss(step.labels_loss, self.settings.sign_weight)
        loss = loss if variant == "sign_head" else step.labels_loss
        with mock.patch.object(step, "labels_loss", loss):  # while the step is traced
            for i in range(self.steps):
                if sums is not None and i == config.loss.positives_only_steps:
                    state = state | {"weight_sums": self._on_mesh(sums)}
                if variant == "refits" and i and i % self.batches.steps_per_epoch == 0:
                    state = self._with_scalars(state, self._refitted(state, config))
                state, _ = trainer.step(state, batches.batch(i))
        return state

    def _on_mesh(self, tree: Any) -> Any:
        return jax.device_put(jax.tree.map(jnp.copy, tree), copied(self.mesh))

    def _with_scalars(self, state: Any, values: dict[str, float]) -> Any:
        own = self._on_mesh(models.parameters_of(values))
        return state | {"dense": state["dense"] | {models.SCALARS: own}}

    def _refitted(self, state: Any, config: Config) -> dict[str, float]:
        """The scalars by Newton's method on a part of the training labels, from where they are."""
        trained = dataclasses.replace(self.as_trained(state, config), step=int(state["step"]))
        weights = weights_of(trained, state["weight_sums"])
        now = {k: float(x) for k, x in models.scalars_of(state["dense"]).items()}
        if not any(now.values()):
            now = START
        settings = dataclasses.replace(config.calibration, labels=REFIT_LABELS)
        data = self._data(trained, weights, settings, 0)
        free = [SCALARS.index(name) for name in models.TERMS]
        start_P = np.array([now.get(name, 0.0) for name in SCALARS])
        theta_P = newton.fit(data, weights, free, settings.prior_deviation, start_P).theta_P
        return {name: float(theta_P[SCALARS.index(name)]) for name in models.TERMS}

    def _data(
        self, trained: Trained, weights: newton.Weights, settings: CalibrationConfig, part: int
    ) -> newton.Data:
        """Labels to fit on (part 0) or held out (1)."""
        model = Model(dataclasses.replace(trained, calibration=None))
        kind_V = kind_of_items(self.sequences.catalogue, KIND)
        candidates = model.candidates(kind_V, settings.candidates)
        states = labelled_states(model, self.sequences, settings)[part]
        facts = label_facts(model, self.sequences, states, kind_V, candidates)
        return newton.data_of(facts, Scales.of(settings), weights)

    def _held_out(self, trained: Trained, weights: newton.Weights) -> tuple[np.ndarray, np.ndarray]:
        data = self._data(trained, weights, trained.config.calibration, 1)
        values = values_of(trained)
        theta_P = np.array([values.get(name, 0.0) for name in SCALARS])
        losses_N = newton.losses(theta_P, data, weights)
        return losses_N[: data.labels], np.asarray(data.user_N)[: data.labels]


def values_of(trained: Trained) -> dict[str, float]:
    """The scalars by cluster; none without a calibration."""
    return dict(trained.calibration.values.get(KIND, {})) if trained.calibration else {}


def gain(runs: list[Run], base: list[Run]) -> tuple[float, float]:
    """(mean decrease of the objective per label, its standard error over users and seeds)."""
    change_GN = np.stack([b.losses_N - a.losses_N for a, b in zip(runs, base, strict=True)])
    mean_N, (_, place_N) = change_GN.mean(axis=0), np.unique(base[0].user_N, return_inverse=True)
    total_U = np.bincount(place_N, mean_N)
    total_U -= np.bincount(place_N) * mean_N.mean()
    squares = (total_U**2).sum() / len(mean_N) ** 2
    if len(runs) > 1:
        squares += change_GN.mean(axis=1).var(ddof=1) / len(runs)
    return float(mean_N.mean()), float(np.sqrt(squares))
