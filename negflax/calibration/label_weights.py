"""The weights of the labels in the calibration's objective: the run's, or those of an ω of its own.

With an ω, dislikes are labels of the calibration whatever the run was trained on. So no item's
vector is pushed away, and lists still answer a dislike as an objective with negative labels would
have them (docs/calibration.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from negflax.calibration import newton
from negflax.calibration.fit_data import Weights, data_of
from negflax.calibration.kind_terms import Scales
from negflax.calibration.label_facts import LabelFacts
from negflax.config import OBJECTIVES, ConfigError
from negflax.train.restore import Trained
from negflax.train.weights import Sums, loss_weights, negative_scale


def weights_of(trained: Trained, sums: dict[str, Sums]) -> Weights:
    """The weights that the run's labels had at the checkpoint's step.

    Raises:
      ConfigError: the objective reads more than margins.
    """
    loss = trained.config.loss
    if OBJECTIVES.traits[loss.objective].extra or loss.objective == "reinforce":
        raise ConfigError(
            f"a run with config.loss.objective = {loss.objective!r} cannot be calibrated by it: "
            "the objective is not a function of the labels' margins alone; with "
            "config.calibration.omega above 0 the calibration has one that is"
        )
    values = loss_weights(loss, trained.config.model.dtype, trained.model.num_rows)
    scale = negative_scale(sums, np.int32(trained.step), values, loss)
    return Weights(loss.objective, float(values.r), float(jax.device_get(scale)), values.objective)


def weights_of_fit(trained: Trained, sums: dict[str, Sums]) -> Weights:
    """The weights that the checkpoint's calibration was fitted with.

    Raises:
      ConfigError: see `weights_of`.
    """
    report = trained.calibration.report if trained.calibration else {}
    if not report.get("omega"):
        return weights_of(trained, sums)
    return _ntr(trained, float(report["w"]))


def weights_at_omega(
    trained: Trained, facts: Sequence[LabelFacts], scales: Scales, omega: float
) -> Weights:
    """`ntr` with w = ω / p̄, p̄ the model's mean p of the negative labels, as `frozen_p` in training.

    Args:
      trained: the checkpoint.
      facts: labels that are fitted, before any correction.
      scales: of the features.
      omega: ω.

    Raises:
      ConfigError: there are no negative labels.
    """
    weights = _ntr(trained, w=1.0)
    mean_p = newton.mean_negative_p(data_of(facts, scales, weights))
    if not mean_p > 0:
        raise ConfigError(
            "config.calibration.omega is above 0, but no training event has a negative label: "
            "say which feedback is one (config.labels.negative), or set it to 0"
        )
    return weights._replace(w=omega / mean_p)


def _ntr(trained: Trained, w: float) -> Weights:
    loss = trained.config.loss
    values = loss_weights(loss, trained.config.model.dtype, trained.model.num_rows)
    return Weights("ntr", float(values.r), w, values.objective)
