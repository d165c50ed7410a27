"""What the study compares: for each objective one scalar, tuned by one rule with one budget."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

BASELINE = "ssm"
KEPT_HR_P = 0.92  # of positives only, on validation: two points of room below the 10 % asked about
TRIALS = 3  # settings of each objective: a weak and a strong one, then by bisection
STEP = math.sqrt(10.0)  # from strength to strength, and beyond the ends
DIVERGED = 10.0  # times the max |logit| of positives only

OMEGAS = (0.03, 0.3, 3.0, 30.0)
PLAIN = (0.1, 1.0, 10.0, 100.0, 3000.0)


class Contender(NamedTuple):
    """An objective and the scalar of it that is tuned.

    Attributes:
      objective: of LossConfig.
      knob: what a strength is: `omega` (w = ω / p̄, p̄ of the warm start), or a field of LossConfig.
      first: the first strengths, weak to strong.
      fixed: other fields of LossConfig.
    """

    objective: str
    knob: str
    first: tuple[float, ...]
    fixed: Mapping[str, Any] = {}

    def loss(self, strength: float, p_bar: float) -> dict[str, Any]:
        """Fields of LossConfig at a strength."""
        if self.knob == "omega":
            tuned = {"w": strength / p_bar}
        elif self.knob == "w_max":  # the weights are those that NTR takes at ω = 1
            tuned = {"w": 1 / p_bar, "w_max": strength}
        else:
            tuned = {self.knob: strength}
        named = {"objective": self.objective, "weight_policy": "constant"}
        return named | dict(self.fixed) | tuned

    def weighted(self, w: float) -> dict[str, Any]:
        """Fields of LossConfig with a plain weight, for the stability grid: α of `upweight`."""
        tuned = {"upweight": w} if self.knob == "upweight" else {"w": w}
        cap = {"w_max": 0.3} if self.knob == "w_max" else {}
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
# Beside the objectives: the negative term over the uncorrected sample, with a plain w.
UNCORRECTED = Contender(
    "ntr", "w", (10.0, 100.0), _UNIFORM | {"negative_candidates": "uncorrected"}
)


def next_strength(kept: Mapping[float, float]) -> float:
    """Where to look next: strength → share of the HR_p of `ssm` it kept, NaN where it diverged.

    Between the strongest that keeps KEPT_HR_P and the next stronger one, half-way on a logarithmic
    scale; beyond the end if all or none keep it.
    """
    keeping = [x for x, share in kept.items() if share >= KEPT_HR_P]
    if not keeping:
        return min(kept) / STEP
    strongest = max(keeping)
    stronger = [x for x in kept if x > strongest]
    return math.sqrt(strongest * min(stronger)) if stronger else strongest * STEP


def chosen(hr_p: Mapping[Any, float], hr_n: Mapping[Any, float], baseline_hr_p: float) -> Any:
    """The setting by the study's one rule, on validation figures.

    The least HR_n among settings that keep KEPT_HR_P of the HR_p of `ssm`; if none does, the most
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
