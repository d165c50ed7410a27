"""Training for benchmarks/inside_training.py: every variant of an arm, over training seeds."""

from __future__ import annotations

import dataclasses
import functools
import pickle
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from benchmarks import _inside_counts as counts
from benchmarks import _inside_rivals as rivals
from benchmarks._inside_held_out import FIT, HELD_OUT, KIND, Run, labels_of, losses
from negflax.calibration import Calibration, newton, read_calibration
from negflax.calibration.fit_calibration import calibrate
from negflax.calibration.kind_terms import SCALARS, START, Scales
from negflax.calibration.label_weights import weights_of
from negflax.config import Config, ConfigError
from negflax.data import Sequences, StreamBatches
from negflax.mesh import copied, make_mesh
from negflax.model import Recommender
from negflax.train import step
from negflax.train.loop import planned_steps
from negflax.train.restore import Trained, load_trained, load_weight_sums
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
BESIDE = (counts.SCALARS, rivals.SIGN)  # what a recommender has no use for
REFIT_LABELS = 20_000


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

    def __init__(
        self,
        config: Config,
        sequences: Sequences,
        settings: Settings,
        folder: Path,
        finished: Path | None = None,
    ):
        """Models; nothing is trained.

        Args:
          config: of the arm alone.
          sequences: the log.
          settings: of the variants.
          folder: keeps what was trained.
          finished: folder of the arm's runs of `launch.simulate worlds`, if there are some: they
            are `alone` and, calibrated, `after`.
        """
        calibration = dataclasses.replace(config.calibration, kinds=(KIND,))
        self.config = dataclasses.replace(config, calibration=calibration)
        self.sequences, self.settings, self.mesh = sequences, settings, make_mesh(config.mesh)
        self.folder, self.finished = folder, finished
        self.batches = StreamBatches.of(config, sequences)
        self.steps = planned_steps(config, self.batches)
        self.plain = Recommender(config.model, sequences.catalogue)
        memory = dataclasses.replace(config.model, encoder=rivals.DISLIKED_MEMORY)
        self.memory = Recommender(memory, sequences.catalogue)
        self._trainers: dict[str, Trainer] = {}
        self._held_out: tuple[Any, Any] = (None, None)  # labels with the scores of the last model

    @functools.cached_property
    def counted(self) -> counts.CountedBatches:
        """The batches with counts."""
        return counts.CountedBatches(self.batches, self.sequences)

    def run(self, variant: str, seed: int) -> Run:
        """Trains and measures one variant, or reads it from the folder."""
        config = dataclasses.replace(
            self.config, train=dataclasses.replace(self.config.train, seed=seed)
        )
        path = self.folder / f"{variant}-seed{seed}.pickle"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            parts = self._new_run(variant, config)
            path.with_suffix(".new").write_bytes(pickle.dumps(parts))
            path.with_suffix(".new").rename(path)
        state, values, w, losses_N, user_N = pickle.loads(path.read_bytes())
        trained = self.as_trained(state, config, variant, values)
        return Run(trained, w, losses_N, user_N)

    def _new_run(self, variant: str, config: Config) -> tuple[Any, ...]:
        """(state, scalars, weight of dislikes, objective and user of the held-out labels)."""
        sums = None
        if variant != "alone":
            alone = self.run("alone", config.train.seed)
            sums = alone.trained.state["weight_sums"]
        if variant == "after":
            state = alone.trained.state
        elif variant == "alone" and self.finished:
            state = self._of_finished(config)
        else:
            state = jax.device_get(self._trained(variant, config, sums))
        values: dict[str, float] = {}
        if variant == "inside":
            values = {k: float(x) for k, x in counts.scalars_of(state["dense"]).items()}
        trained = self.as_trained(state, config, variant)
        sums = state["weight_sums"] if sums is None else sums
        if variant == "after" and self.finished:
            values = dict(read_calibration(self._finished(config)).values.get(KIND, {}))
        elif variant in ("after", "refits"):
            values = dict(calibrate(trained, self.sequences, sums).values.get(KIND, {}))
        weights = weights_of(trained, sums)
        logging.info("%s, seed %d: w = %.0f, %s", variant, config.train.seed, weights.w, values)
        same = "alone" if variant == "after" else variant, config.train.seed
        if self._held_out[0] != same:
            settings = config.calibration
            data = labels_of(trained, self.sequences, weights, settings, HELD_OUT)
            self._held_out = same, data
        measured = losses(values, self._held_out[1], weights)
        return jax.device_get(trained.state), values, weights.w, *measured

    def _finished(self, config: Config) -> Path:
        return self.finished / f"seed{config.train.seed}"

    def _of_finished(self, config: Config) -> Any:
        """The state of a finished run, which must be the one that would be trained here."""
        folder = self._finished(config)
        trained = load_trained(folder, "latest", self.mesh)
        for section in ("world", "labels", "batch", "model", "loss", "optimizer", "train"):
            if getattr(trained.config, section) != getattr(config, section):
                raise ConfigError(f"{folder}: config.{section} differs from that of this benchmark")
        sums = load_weight_sums(folder, "latest", self.mesh)
        return jax.device_get(trained.state | {"weight_sums": sums})

    def as_trained(
        self, state: Any, config: Config, variant: str = "alone", values: Any = None
    ) -> Trained:
        """The recommender of a state, calibrated by the scalars, if there are some."""
        model = self.memory if variant == "memory" else self.plain
        kept = {"dense": {k: x for k, x in state["dense"].items() if k not in BESIDE}}
        kept["tables"] = {name: {"rows": x["rows"]} for name, x in state["tables"].items()}
        kept["weight_sums"] = state["weight_sums"]
        calibration = None
        if values:
            calibration = Calibration("", Scales.of(config.calibration), {KIND: values})
        config = dataclasses.replace(config, model=model.config)
        return Trained(
            config,
            self.sequences.catalogue,
            model,
            jax.device_put(kept, copied(self.mesh)),
            self.steps,
            self.mesh,
            calibration,
        )

    def _trainer(self, variant: str) -> Trainer:
        if variant not in self._trainers:
            self._trainers[variant] = self._new_trainer(variant)
        return self._trainers[variant]

    def _new_trainer(self, variant: str) -> Trainer:
        items, config = self.sequences.catalogue, self.config
        more = items.train_count_V, self.steps, self.mesh
        if variant in ("inside", "refits"):
            scales = Scales.of(config.calibration)
            model = counts.CountingModel(config.model, items, scales)
            # The loss takes the width of states from the config.
            wide = dataclasses.replace(config.model, embedding=config.model.embedding + model.kinds)
            rate = self.settings.rate if variant == "inside" else 0.0
            return counts.ScalarTrainer(rate, dataclasses.replace(config, model=wide), model, *more)
        if variant == "sign_head":
            return Trainer(config, rivals.SignModel(config.model, items), *more)
        model = self.memory if variant == "memory" else self.plain
        return Trainer(dataclasses.replace(config, model=model.config), model, *more)

    def _trained(self, variant: str, config: Config, sums: Any) -> Any:
        """The state at the end of training; from the warm-up on with the arm's weight, if given."""
        trainer = self._trainer(variant)
        state = init_state(
            config, trainer.model, trainer.dense_optimizer, trainer.row_optimizer, self.mesh
        )
        counted = isinstance(trainer.model, counts.CountingModel)
        if variant == "refits":
            state = self._with_scalars(state, {})
        batches = self.counted if counted else self.batches
        loss = rivals.with_sign_loss(step.labels_loss, self.settings.sign_weight)
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
        own = self._on_mesh(counts.parameters_of(values))
        return state | {"dense": state["dense"] | {counts.SCALARS: own}}

    def _refitted(self, state: Any, config: Config) -> dict[str, float]:
        """The scalars by Newton's method on a part of the training labels, from where they are."""
        trained = dataclasses.replace(self.as_trained(state, config), step=int(state["step"]))
        weights = weights_of(trained, state["weight_sums"])
        now = START  # for the first time
        if int(state["step"]) > self.batches.steps_per_epoch:
            now = {k: float(x) for k, x in counts.scalars_of(state["dense"]).items()}
        settings = dataclasses.replace(config.calibration, labels=REFIT_LABELS)
        data = labels_of(trained, self.sequences, weights, settings, FIT)
        free = [SCALARS.index(name) for name in counts.TERMS]
        start_P = np.array([now.get(name, 0.0) for name in SCALARS])
        theta_P = newton.fit(data, weights, free, settings.prior_deviation, start_P).theta_P
        return {name: float(theta_P[SCALARS.index(name)]) for name in counts.TERMS}
