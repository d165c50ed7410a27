"""Settings that the study tries, the rule that chooses, the front and intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

BASELINE = "ssm"
KEPT_HR_P = 0.9  # of the baseline's, that a setting must keep to be chosen

# Equally many settings each, about a factor of three apart; positives only have none to tune.
_OMEGA = [{"weight_policy": "frozen_p", "omega": x} for x in (0.03, 0.1, 0.3, 1.0, 3.0, 30.0)]
_SMALL_W = [{"weight_policy": "constant", "w": x} for x in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)]
_W = [{"weight_policy": "constant", "w": x} for x in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)]
_CAP = [
    {"weight_policy": "constant", "w": 1.0, "w_max": x} for x in (0.003, 0.01, 0.03, 0.1, 0.3, 0.9)
]

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "ssm": [{}],
    "ntr": _OMEGA,
    "ssm_upweighted": [{"upweight": x} for x in (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)],
    "negative_weight": _SMALL_W,
    "negative_weight_limited": _CAP,
    "smoothed": _W,
    "probability_regularized": _OMEGA,
    "focal": _SMALL_W,
    "reinforce": _W,
    "gbce": _W,
    "contrastive": [
        {"weight_policy": "frozen_p", "omega": omega, "contrastive": c}
        for omega in (0.1, 0.3, 1.0) for c in (0.03, 0.3)
    ],
}  # fmt: skip


def chosen(hr_p: Mapping[str, float], hr_n: Mapping[str, float], baseline_hr_p: float) -> str:
    """The setting by the study's one rule, on validation figures.

    The least HR_n among settings that keep 90 % of the baseline's HR_p; if none does, the most
    HR_p. Runs without figures (diverged) are left out.

    Raises:
      ValueError: no setting has figures.
    """
    usable = [name for name in hr_p if math.isfinite(hr_p[name]) and math.isfinite(hr_n[name])]
    if not usable:
        raise ValueError("no setting of the objective ended with finite scores")
    kept = [name for name in usable if hr_p[name] >= KEPT_HR_P * baseline_hr_p]
    if kept:
        return min(kept, key=lambda name: (hr_n[name], -hr_p[name]))
    return max(usable, key=lambda name: hr_p[name])


def on_front(points: Mapping[str, tuple[float, float]]) -> dict[str, bool]:
    """Name → whether no other point has at least its HR_p for at most its HR_n, one of them better.

    `points` are (HR_p, HR_n).
    """

    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a[0] >= b[0] and a[1] <= b[1] and a != b

    return {
        name: not any(beats(other, point) for other in points.values())
        for name, point in points.items()
    }


def seed_interval(values: list[float]) -> tuple[float, float, float]:
    """(mean, low, high): 95 % t-interval over seeds; the mean alone thrice for one seed."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, mean, mean
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return mean, mean - float(half), mean + float(half)
