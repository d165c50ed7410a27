"""The objectives that the study compares; one parameter of each is tuned, all by the same rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

BASELINE = "ssm"
KEPT_HR_P = 0.92  # share of the baseline's HR_p on validation: a margin of 2 % to the limit of 10 %
TRIALS = 3  # settings per objective: a weak and a strong one, then by bisection
STEP = math.sqrt(10.0)  # factor by which the search goes beyond the settings tried
DIVERGED = 10.0  # a run diverged if its max |logit| exceeds the baseline's by this factor

OMEGAS = (0.03, 0.3, 3.0, 30.0)
PLAIN = (0.1, 1.0, 10.0, 100.0, 3000.0)


class Contender(NamedTuple):
    """An objective and the parameter of it that is tuned.

    Attributes:
      objective: name of the objective (LossConfig.objective).
      parameter: parameter that is tuned: `omega` (w = ω / p̄, p̄ of the warm start), or a field of
        LossConfig.
      first: first settings of the parameter, weak to strong.
      fixed: other fields of LossConfig.
    """

    objective: str
    parameter: str
    first: tuple[float, ...]
    fixed: Mapping[str, Any] = {}

    def loss(self, setting: float, p_bar: float) -> dict[str, Any]:
        """Returns the fields of LossConfig for a setting of the parameter."""
        if self.parameter == "omega":
            tuned = {"w": setting / p_bar}
        elif self.parameter == "w_max":  # the weight is that of NTR at ω = 1
            tuned = {"w": 1 / p_bar, "w_max": setting}
        else:
            tuned = {self.parameter: setting}
        named = {"objective": self.objective, "weight_policy": "constant"}
        return named | dict(self.fixed) | tuned

    def weighted(self, w: float) -> dict[str, Any]:
        """Returns the fields of LossConfig for weight w (α of `upweight`) of the stability grid."""
        tuned = {"upweight": w} if self.parameter == "upweight" else {"w": w}
        cap = {"w_max": 0.3} if self.parameter == "w_max" else {}
        named = {"objective": self.objective, "weight_policy": "constant"}
        return named | dict(self.fixed) | cap | tuned


_SMALL, _LARGE = (0.03, 0.3), (0.1, 1.0)
_UNIFORM = {"candidates": "uniform"}

ARMS: dict[str, Contender] = {
    "ssm": Contender("ssm", "w", (0.0,)),
    "ntr": Contender("ntr", "omega", _LARGE),
    "ssm_upweighted": Contender("ssm_upweighted", "upweight", (30.0, 300.0)),
    "negative_weight": Contender("negative_weight", "w", _SMALL),
    "negative_weight_limited": Contender("negative_weight_limited", "w_max", (0.05, 0.5)),
    "smoothed": Contender("smoothed", "w", _SMALL),
    "probability_regularized": Contender("probability_regularized", "omega", _LARGE),
    "focal": Contender("focal", "w", _SMALL),
    "reinforce": Contender("reinforce", "w", _SMALL),
    "gbce": Contender("gbce", "w", (10.0, 100.0), _UNIFORM),
    "contrastive": Contender("contrastive", "omega", _LARGE),
}
# A variant beside the objectives: the negative term over the uncorrected sample, with a fixed w.
UNCORRECTED = Contender(
    "ntr", "w", (10.0, 100.0), _UNIFORM | {"negative_candidates": "uncorrected"}
)


def next_setting(kept: Mapping[float, float]) -> float:
    """Returns the next setting to try, by bisection on a logarithmic scale.

    It lies half-way between the strongest setting that keeps KEPT_HR_P and the next stronger one.
    If all settings keep it, or none, it lies a factor STEP beyond the end.

    Args:
      kept: setting → share of the HR_p of `ssm` that it kept, NaN if the run diverged.
    """
    keeping = [x for x, share in kept.items() if share >= KEPT_HR_P]
    if not keeping:
        return min(kept) / STEP
    strongest = max(keeping)
    stronger = [x for x in kept if x > strongest]
    return math.sqrt(strongest * min(stronger)) if stronger else strongest * STEP


def chosen(hr_p: Mapping[Any, float], hr_n: Mapping[Any, float], baseline_hr_p: float) -> Any:
    """Chooses a setting by its validation metrics, by the same rule for all objectives.

    It is the setting with the lowest HR_n among those that keep KEPT_HR_P of the HR_p of `ssm`, or
    the one with the highest HR_p if none does. Diverged runs, which have no metrics, are left out.

    Raises:
      ValueError: all runs diverged.
    """
    usable = [name for name in hr_p if math.isfinite(hr_p[name]) and math.isfinite(hr_n[name])]
    if not usable:
        raise ValueError("all settings of the objective diverged: none has finite scores")
    kept = [name for name in usable if hr_p[name] >= KEPT_HR_P * baseline_hr_p]
    if kept:
        return min(kept, key=lambda name: (hr_n[name], -hr_p[name]))
    return max(usable, key=lambda name: hr_p[name])


def on_front(points: Mapping[str, tuple[float, float]]) -> dict[str, bool]:
    """Returns which points (HR_p, HR_n) are on the Pareto front.

    A point is on the front if no other point has at least its HR_p and at most its HR_n.
    """

    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a[0] >= b[0] and a[1] <= b[1] and a != b

    return {
        name: not any(beats(other, point) for other in points.values())
        for name, point in points.items()
    }
