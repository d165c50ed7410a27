"""Does negative feedback teach taste, or only which items are bad for everyone?

Every comparison is at equal HR_p: an arm beside the front of scores + β · log(item's positive
rate), which knows item quality and nothing of the user, where that front has the arm's HR_p.
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
LEVELS = (0.95, 0.9, 0.85, 0.8)  # of the HR_p of positives only


def on_beta(name: str, beta: str = beta_name()) -> str:
    """Name of an arm's scores + β · log(item's positive rate)."""
    return f"{name}+{beta}"


def front(found: Estimates, name: str, *metrics: str) -> list[tuple[Estimate, ...]]:
    """Metrics of an arm at each β, 0 first."""
    shifted = [arm for arm, metric in found if metric == "hr_p" and arm.startswith(on_beta(name))]
    return [
        tuple(found[arm, metric] for metric in metrics)
        for arm in [name, *shifted]
        if (arm, metrics[-1]) in found
    ]


def beyond_rate_adjusted(found: Estimates, name: str) -> dict[str, Estimate]:
    """Metric → an arm's figure minus that of the rate-adjusted front at its HR_p or more."""
    baseline = front(found, BASELINE, "hr_p", "hr_n")
    return {
        metric: found[name, metric].minus(
            front_at(found[name, "hr_p"], baseline, [x for (x,) in front(found, BASELINE, metric)])
        )
        for metric in (*AVERSION, *WITHIN)
        if (name, metric) in found and len(front(found, BASELINE, metric)) == len(baseline)
    }


def fronts_apart(found: Estimates, name: str) -> dict[float, Estimate]:
    """Share of the HR_p of `ssm` → HR_n of (arm + β) minus HR_n of (`ssm` + β) there."""
    apart = {}
    for level in LEVELS:
        hr_p = scaled(found[BASELINE, "hr_p"], level)
        own, baseline = (
            front_at(hr_p, front(found, arm, "hr_p", "hr_n")) for arm in (name, BASELINE)
        )
        apart[level] = own.minus(baseline)
    return apart


def shown(difference: Estimate) -> str:
    """Whether HR_n is shown to be below the rate-adjusted baseline's, above it, or neither."""
    _, low, high = difference.interval()
    return "yes" if high < 0 else "no: more" if low > 0 else "not shown"
