"""Training in a study: for each seed, all objectives continue from one warm start.

A run has config.train.epochs epochs. The first WARM_SHARE of its steps are trained on positives
only with a constant learning rate, once for all objectives, and measure p̄. Each objective then
continues from the same parameters and optimizer state while the learning rate falls linearly.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from negflax.config import Config
from negflax.data import Sequences, StreamBatches, prefetch
from negflax.evaluate.protocol import Scorer
from negflax.evaluate.scorer import model_scorer
from negflax.mesh import split as over_devices
from negflax.model import Recommender
from negflax.model.recommender import BEHAVIOUR_HEAD
from negflax.study.settings import ARMS, BASELINE, Contender
from negflax.train import weights
from negflax.train.loop import train
from negflax.train.restore import Trained
from negflax.train.state import State, grafted
from negflax.train.step import Trainer

TRAINED_ON = {"valid": ("train",), "test": ("train", "valid")}  # evaluated on → trained on
WARM_SHARE = 0.75
RAMP_SHARE = 0.2  # share of the continuation in which the negative term's weight ramps up


class Training:
    """Trains the arms of a study, on one data set with one model."""

    def __init__(self, config: Config, workdir: Path, sequences: Sequences, mesh: Mesh):
        """Takes the config that all runs vary; warm starts are stored in <workdir>/warm."""
        self.config, self.workdir, self.sequences, self.mesh = config, workdir, sequences, mesh
        self.model = Recommender(config.model, sequences.catalogue)
        self._batches: dict[Any, StreamBatches] = {}
        self._trainers: dict[Any, Trainer] = {}
        self._warm: dict[tuple[str, int], State] = {}

    @property
    def steps(self) -> tuple[int, int]:
        """The steps of the warm start and of a whole run, the same for both splits."""
        total = max(2, round(self.config.train.epochs * self.batches("valid", 0).steps_per_epoch))
        return round(WARM_SHARE * total), total

    def batches(self, split: str, seed: int) -> StreamBatches:
        """Returns the training batches of runs that are evaluated on `split`."""
        if (split, seed) not in self._batches:
            config = dataclasses.replace(
                self.config, batch=dataclasses.replace(self.config.batch, seed=seed)
            )
            self._batches[split, seed] = StreamBatches.of(config, self.sequences, TRAINED_ON[split])
        return self._batches[split, seed]

    def warm(self, split: str, seed: int) -> State:
        """Returns the state that all objectives of a seed start from; it is trained once."""
        if (split, seed) not in self._warm:
            steps = self.steps[0]
            trainer = self._trainer(ARMS[BASELINE], {"objective": BASELINE}, warm=True)
            config = dataclasses.replace(
                trainer.config,
                train=dataclasses.replace(self.config.train, seed=seed, checkpoint_every=steps),
            )
            counts = self.sequences.catalogue.train_count_V
            fresh = Trainer(config, self.model, counts, steps, self.mesh).init
            folder = self.workdir / "warm" / f"{split}-{seed}"
            made = train(config, trainer, self.batches(split, seed), steps, folder, init=fresh)
            self._warm[split, seed] = made.state
        return self._warm[split, seed]

    def p_bar(self, split: str, seed: int) -> float:
        """Returns the mean p of the negative labels in the second half of the warm start."""
        sums = jax.device_get(self.warm(split, seed)["weight_sums"]["warm_up"])
        return float(sums["p_negative"] / max(sums["negatives"], 1))

    def scorer(self, state: State) -> Scorer:
        """Returns a scorer of the state, without its behaviour head, which scoring does not use."""
        dense = {k: v for k, v in state["dense"].items() if k != BEHAVIOUR_HEAD}
        history = self.config.eval.history
        return model_scorer(
            self.model, state | {"dense": dense}, self.sequences, self.mesh, history
        )

    def trained(self, state: State, split: str) -> Trained:
        """Returns a state of positives only as a run that was trained for `split`."""
        config = dataclasses.replace(
            self.config,
            loss=dataclasses.replace(self.config.loss, objective=BASELINE),
            train=dataclasses.replace(self.config.train, splits=TRAINED_ON[split]),
        )
        step = int(state["step"])
        return Trained(config, self.sequences.catalogue, self.model, state, step, self.mesh)

    def go_on(self, arm: Contender, loss: dict[str, Any], split: str, seed: int, stop: int):
        """Trains from the warm start to step `stop`.

        Returns:
          The state, and the loss and largest logit of each step, (steps, 2).
        """
        trainer = self._trainer(arm, loss)
        state = grafted(self.warm(split, seed), trainer.init())
        batches, place = self.batches(split, seed), over_devices(self.mesh)
        trace = []
        for batch in prefetch(
            batches,
            int(state["step"]),
            stop,
            self.config.batch.prefetch,
            lambda batch: jax.device_put(batch, place),
        ):
            state, metrics = trainer.step(state, batch)
            trace.append((metrics["loss"], metrics["max_logit"]))
            jax.block_until_ready(trace[-1])
        return state, np.array(jax.device_get(trace), np.float64)

    def _trainer(self, arm: Contender, loss: dict[str, Any], warm: bool = False) -> Trainer:
        """Returns the trainer of an objective, compiled once; settings are run-time values."""
        begin, total = self.steps
        ramp = max(1, round(RAMP_SHARE * (total - begin)))
        loss_config = dataclasses.replace(
            self.config.loss, **{"positives_only_steps": begin, "ramp_steps": ramp} | loss
        )
        key = arm.objective, tuple(sorted(arm.fixed.items())), warm
        if key not in self._trainers:
            head = arm.objective == "reinforce"
            rate = (
                {"schedule": "constant"} if warm else {"schedule": "linear", "warmup_steps": begin}
            )
            config = dataclasses.replace(
                self.config,
                loss=loss_config,
                model=dataclasses.replace(self.config.model, behaviour_head=head),
                optimizer=dataclasses.replace(self.config.optimizer, **rate),
            )
            model = Recommender(config.model, self.sequences.catalogue) if head else self.model
            counts = self.sequences.catalogue.train_count_V
            self._trainers[key] = Trainer(config, model, counts, total, self.mesh)
        trainer = self._trainers[key]
        trainer.loss_weights = weights.loss_weights(
            loss_config, self.config.model.dtype, self.model.num_rows
        )
        return trainer


def summary(trace: np.ndarray) -> dict[str, Any]:
    """Returns the largest logit, its growth per 100 steps, and the number of non-finite steps.

    The growth is measured over the second half of the steps.
    """
    logits = trace[:, 1]
    half, finite = logits[len(logits) // 2 :], logits[np.isfinite(logits)]
    steady = len(half) > 1 and np.isfinite(half).all()
    growth = 100 * np.polyfit(np.arange(len(half)), half, 1)[0] if steady else np.nan
    return {
        "max_logit": float(finite.max()) if len(finite) else np.nan,
        "growth": float(growth),
        "non_finite_steps": int((~np.isfinite(trace).all(axis=1)).sum()),
        "steps": len(trace),
    }
