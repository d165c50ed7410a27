"""The objective on held-out labels, for inside_training.py and response_strength.py.

Shapes: N labels, G training seeds, U users.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from negflax.calibration import newton
from negflax.calibration.fit_data import Data, Weights, data_of
from negflax.calibration.kind_counts import kind_of_items
from negflax.calibration.kind_terms import SCALARS, Scales
from negflax.calibration.label_facts import label_facts
from negflax.calibration.labelled_states import Model, labelled_states
from negflax.config import CalibrationConfig
from negflax.data import Sequences
from negflax.train.restore import Trained

KIND = "cluster"
FIT, HELD_OUT = 0, 1  # labels of the training period and of the validation period


@dataclasses.dataclass(frozen=True)
class Run:
    """One trained variant.

    Attributes:
      trained: the recommender, with its calibration if it has one.
      w: weight of dislikes that the training of the arm alone has frozen.
      losses_N: objective of the labels of the validation period at that weight.
      user_N: their users.
    """

    trained: Trained | None
    w: float
    losses_N: np.ndarray
    user_N: np.ndarray


def values_of(trained: Trained) -> dict[str, float]:
    """The scalars by cluster; none without a calibration."""
    return dict(trained.calibration.values.get(KIND, {})) if trained.calibration else {}


def labels_of(
    trained: Trained,
    sequences: Sequences,
    weights: Weights,
    settings: CalibrationConfig,
    part: int,
) -> Data:
    """Labels with their scores, FIT or HELD_OUT, without the calibration of the run."""
    model = Model(dataclasses.replace(trained, calibration=None))
    kind_V = kind_of_items(sequences.catalogue, KIND)
    candidates = model.candidates(kind_V, settings.candidates)
    states = labelled_states(model, sequences, settings)[part]
    facts = label_facts(model, sequences, states, kind_V, candidates)
    return data_of(facts, Scales.of(settings), weights)


def losses(values: dict[str, float], data: Data, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """(objective of each label under the calibration by these scalars (N,), its user (N,))."""
    theta_P = np.array([values.get(name, 0.0) for name in SCALARS])
    return newton.losses(theta_P, data, weights), data.user_N


def gain(runs: list[Run], base: list[Run]) -> tuple[float, float]:
    """(mean decrease of the objective per label, its standard error over users and seeds).

    Args:
      runs: of G seeds.
      base: what they are compared with, of the same seeds.
    """
    change_GN = np.stack([b.losses_N - a.losses_N for a, b in zip(runs, base, strict=True)])
    mean_N, (_, place_N) = change_GN.mean(axis=0), np.unique(base[0].user_N, return_inverse=True)
    total_U = np.bincount(place_N, mean_N - mean_N.mean())
    square = (total_U**2).sum() / len(mean_N) ** 2
    if len(runs) > 1:
        square += change_GN.mean(axis=1).var(ddof=1) / len(runs)
    return float(mean_N.mean()), float(np.sqrt(square))
