"""Does negative feedback teach taste, or only which items are bad for everyone?

Every comparison is at equal HR_p: an arm beside the front of scores + β · log(item's positive
rate), which knows item quality and nothing of the user, where that front has the arm's HR_p.
"""

from __future__ import annotations

from collections.abc import Mapping

from negflax.study.quality import BETAS, beta_name
from negflax.study.settings import BASELINE
from negflax.study.statistics import Estimate, front_at, scaled

Estimates = Mapping[tuple[str, str], Estimate]
AVERSION = ("hr_n", "negative=kin/hr_n", "negative=unrelated/hr_n", "creator=rejected/hr_n",
            "creator=other/hr_n", "cluster=rejected/hr_n", "cluster=other/hr_n")  # fmt: skip
WITHIN = ("auc", "quality=low/auc", "quality=middle/auc", "quality=high/auc")
LEVELS = (0.95, 0.9, 0.85, 0.8)  # of the HR_p of positives only


def on_beta(name: str, beta: float) -> str:
    """Name of an arm's scores + β · log(item's positive rate)."""
    return f"{name}+{beta_name(beta)}"


def front(found: Estimates, name: str, metric: str) -> list[tuple[Estimate, Estimate]]:
    """(HR_p, metric) of an arm at each β, 0 included."""
    arms = [name, *(on_beta(name, beta) for beta in BETAS)]
    return [(found[arm, "hr_p"], found[arm, metric]) for arm in arms if (arm, metric) in found]


def beyond_floor(found: Estimates, name: str) -> dict[str, Estimate]:
    """Metric → an arm's figure minus that of the floor at the arm's HR_p."""
    hr_p = found[name, "hr_p"]
    return {
        metric: found[name, metric].minus(front_at(hr_p, front(found, BASELINE, metric)))
        for metric in (*AVERSION, *WITHIN)
        if (name, metric) in found and (on_beta(BASELINE, BETAS[0]), metric) in found
    }


def fronts_apart(found: Estimates, name: str) -> dict[float, Estimate]:
    """Share of the baseline's HR_p → HR_n of (arm + β) minus HR_n of (baseline + β) there."""
    apart = {}
    for level in LEVELS:
        hr_p = scaled(found[BASELINE, "hr_p"], level)
        own, floor = (front_at(hr_p, front(found, arm, "hr_n")) for arm in (name, BASELINE))
        if found[name, "hr_p"].value >= hr_p.value:  # beyond its end a front says nothing
            apart[level] = own.minus(floor)
    return apart


def shown(difference: Estimate) -> str:
    """Whether less HR_n than the floor's is shown: yes, no (more is), or not shown."""
    _, low, high = difference.interval()
    return "yes" if high < 0 else "no: more" if low > 0 else "not shown"
