"""Tests whether negative feedback teaches personal taste, or only which items are bad for all.

Every comparison is at equal HR_p. An arm is compared with the front of the rate-adjusted baseline,
scores + β · log(item's positive rate), at the point where that front has the arm's HR_p. The second
term of the baseline depends on item quality but not on the user.
"""

from __future__ import annotations

from collections.abc import Mapping

from negflax.study.quality import beta_name
from negflax.study.settings import BASELINE
from negflax.study.statistics import Estimate, front_at, scaled

Estimates = Mapping[tuple[str, str], Estimate]
AVERSION = (
    "hr_n",
    "negative=related/hr_n",
    "negative=unrelated/hr_n",
    "creator=rejected/hr_n",
    "creator=other/hr_n",
    "cluster=rejected/hr_n",
    "cluster=other/hr_n",
)
WITHIN = ("auc", "quality=low/auc", "quality=middle/auc", "quality=high/auc")
LEVELS = (0.95, 0.9, 0.85, 0.8)  # shares of the HR_p of positives only


def on_beta(name: str, beta: str = beta_name()) -> str:
    """Returns the name of an arm's scores + β · log(item's positive rate)."""
    return f"{name}+{beta}"


def front(found: Estimates, name: str, *metrics: str) -> list[tuple[Estimate, ...]]:
    """Returns metrics of an arm at each β, β = 0 first."""
    shifted = [arm for arm, metric in found if metric == "hr_p" and arm.startswith(on_beta(name))]
    return [
        tuple(found[arm, metric] for metric in metrics)
        for arm in [name, *shifted]
        if (arm, metrics[-1]) in found
    ]


def beyond_rate_adjusted(found: Estimates, name: str) -> dict[str, Estimate]:
    """Returns each metric of an arm minus that of the rate-adjusted front at equal HR_p or more."""
    baseline = front(found, BASELINE, "hr_p", "hr_n")
    return {
        metric: found[name, metric].minus(
            front_at(found[name, "hr_p"], baseline, [x for (x,) in front(found, BASELINE, metric)])
        )
        for metric in (*AVERSION, *WITHIN)
        if (name, metric) in found and len(front(found, BASELINE, metric)) == len(baseline)
    }


def fronts_apart(found: Estimates, name: str) -> dict[float, Estimate]:
    """Returns, at shares of the HR_p of `ssm`, HR_n of (arm + β) minus HR_n of (`ssm` + β)."""
    apart = {}
    for level in LEVELS:
        hr_p = scaled(found[BASELINE, "hr_p"], level)
        own, baseline = (
            front_at(hr_p, front(found, arm, "hr_p", "hr_n")) for arm in (name, BASELINE)
        )
        apart[level] = own.minus(baseline)
    return apart


def shown(difference: Estimate) -> str:
    """Returns whether HR_n is below the rate-adjusted baseline's, above it, or neither is shown."""
    _, low, high = difference.interval()
    return "yes" if high < 0 else "no: more" if low > 0 else "not shown"
