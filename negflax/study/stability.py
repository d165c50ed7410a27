"""Parts 2 and 3 of the study: outcomes in a small world, and stability over a grid of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from negflax.study.anatomy import CASE, case_outcomes
from negflax.study.runs import Runs
from negflax.study.settings import ARMS, OMEGAS, PLAIN
from negflax.study.tables import diverged

QUICK = 2  # number of weights of each kind with --quick
CASE_WEIGHTS = (0.3, 3.0)


def runs_of(names: Sequence[str], quick: bool) -> int:
    """Returns the number of runs of the grid."""
    return len(names) * len(_chosen(OMEGAS, quick) + _chosen(PLAIN, quick))


def grid(runs: Runs, names: Sequence[str], quick: bool) -> dict[str, list[dict[str, Any]]]:
    """Returns for each objective its short runs, at w = ω / p̄ for OMEGAS and at w of PLAIN."""
    p_bar = runs.p_bar("valid", 0)
    weights = [omega / p_bar for omega in _chosen(OMEGAS, quick)] + list(_chosen(PLAIN, quick))
    return {name: [runs.stable(name, ARMS[name], w) for w in sorted(weights)] for name in names}


def diverged_share(found: Sequence[Mapping[str, Any]], usual_logit: float) -> float:
    """Returns the share of runs that diverged."""
    return sum(diverged(one, usual_logit) for one in found) / len(found)


def case_rows(names: Sequence[str], quick: bool) -> list[dict[str, Any]]:
    """Returns p of four items in the small world (negflax/study/anatomy.py), and its logits."""
    case = CASE._replace(steps=300) if quick else CASE
    rows = []
    for name in names:
        for w, found in zip(CASE_WEIGHTS, case_outcomes(name, CASE_WEIGHTS, case), strict=True):
            items = ("disliked_popular", "liked_popular", "disliked_rare", "cold")
            rows.append(
                {"objective": name, "w": w}
                | {item: f"{found[item]:.3g}" for item in items}
                | {"max |logit|": f"{found['max_logit']:.3g}", "growth": f"{found['drift']:.2g}"}
            )
    return rows


def _chosen(weights: tuple[float, ...], quick: bool) -> tuple[float, ...]:
    return weights[:: len(weights) // QUICK] if quick else weights
