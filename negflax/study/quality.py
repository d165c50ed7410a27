"""Part 4 of the study: tunes settings on validation and evaluates the chosen ones on the test.

Shapes: S seeds, R queries, J judged items.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from negflax.evaluate.baselines.filters import block_creator, drop_disliked
from negflax.evaluate.baselines.popularity import rate_adjusted
from negflax.evaluate.protocol import Scorer
from negflax.evaluate.ranking import Ranks
from negflax.study import statistics, strata
from negflax.study.ranked import values
from negflax.study.runs import Build, Found, Runs
from negflax.study.settings import ARMS, BASELINE, Contender, chosen, next_setting
from negflax.study.training import TRAINED_ON

RATE_ADJUSTED = "rate_adjusted"  # SSM + β · log(item's positive rate)
TOGETHER = 5  # number of metrics that are resampled together
SPREAD = (BASELINE, "ntr")  # arms whose front over β is computed


class Trial(NamedTuple):
    """One setting on validation, with its metrics and figures (Found.figures)."""

    setting: float
    metrics: dict[str, float]
    figures: dict[str, Any]


class Tuned(NamedTuple):
    """An arm's trials in order, and the setting that the rule chose."""

    arm: Contender
    trials: list[Trial]
    setting: float


def beta_name(beta: float | None = None) -> str:
    """Returns the name of the scorer + β · log(item's positive rate); for None, its prefix."""
    return "beta=" if beta is None else f"beta={beta:g}"


def spread(runs: Runs, split: str, filters: bool) -> Build:
    """Returns a function that builds on a model's scorer: the β-front, and the filters if asked."""
    sequences, betas = runs.sequences, runs.config.eval.rate_betas

    def build(model: Scorer) -> Mapping[str, Scorer]:
        shifted = {
            beta_name(b): rate_adjusted(model, sequences, TRAINED_ON[split], b) for b in betas
        }
        if not filters:
            return shifted
        filtered = {
            "block_creator": block_creator(model, sequences),
            "drop_disliked": drop_disliked(model, sequences),
        }
        return shifted | filtered

    return build


class Judge:
    """Computes metrics from ranks on one split."""

    def __init__(self, runs: Runs, split: str):
        """Takes the queries and parts of `split`, and the first K of the config."""
        self.queries, self.k = runs.queries[split], runs.config.eval.ks[0]
        self.parts = strata.parts(runs.sequences, self.queries, TRAINED_ON[split])
        self._config = runs.config.eval

    def means(self, ranks: Mapping[bool, Ranks]) -> dict[str, float]:
        """Returns means of the metrics, with seen items masked."""
        found = values(ranks[True], self.queries, self.k)
        return {name: _mean(value_R) for name, value_R in found.items()}

    def columns(self, ranks: Mapping[bool, Ranks], whole: bool = True) -> dict[str, np.ndarray]:
        """Returns metrics per query, name → (R,); if `whole`, those on the parts as well."""
        found = values(ranks[True], self.queries, self.k)
        for part, counted_J in self.parts.items() if whole else ():
            masked = part != strata.SAME_ITEM
            if masked not in ranks:
                continue
            one = values(ranks[masked], self.queries, self.k, counted_J)
            shown = ("hr_n", "auc") if part.startswith("quality") else ("hr_n",)
            found |= {f"{part}/{name}": one[name] for name in shown}
        return found

    def estimates(
        self, arms: Mapping[str, list[dict[str, np.ndarray]]]
    ) -> dict[tuple[str, str], statistics.Estimate]:
        """Returns estimates by (arm, metric); all arms have the same seeds, in the same order.

        A few metrics are computed at a time to bound the memory. The same users and seeds are drawn
        each time, so all estimates are paired.
        """
        found = {}
        metrics = list(dict.fromkeys(m for columns in arms.values() for m in columns[0]))
        for first in range(0, len(metrics), TOGETHER):
            of = {
                (name, metric): np.stack([one[metric] for one in columns])
                for metric in metrics[first : first + TOGETHER]
                for name, columns in arms.items()
                if metric in columns[0]
            }
            found |= statistics.estimates(
                of,
                resamples=self._config.bootstrap,
                seed=self._config.seed,
                user_R=self.queries.user_R,
            )
        for name in arms:
            found[name, "delta"] = found[name, "hr_p"].minus(found[name, "hr_n"])
        return found

    def negatives(self) -> dict[str, int]:
        """Returns the number of negatives in each part."""
        negative_J = ~self.queries.judged_positive_J
        return {part: int((counted_J & negative_J).sum()) for part, counted_J in self.parts.items()}

    def circumstances(self, runs: Runs) -> dict[str, Any]:
        """Returns the facts that describe the study's method (study_page.METHOD)."""
        warm, total = runs.steps
        positive_J = self.queries.judged_positive_J
        return {
            "warm": warm,
            "total": total,
            "items": runs.sequences.catalogue.num_rows - 1,
            "k": self.k,
            "users": len(np.unique(self.queries.user_R)),
            "positives": int(positive_J.sum()),
            "negatives": int((~positive_J).sum()),
            "resamples": self._config.bootstrap,
            "betas": len(self._config.rate_betas),
        }


def tune(runs: Runs, judge: Judge, name: str, trials: int, arm: Contender | None = None) -> Tuned:
    """Tries settings of an arm on validation with one seed, and chooses one."""
    arm = arm or ARMS[name]

    def attempt(setting: float) -> Trial:
        build = spread(runs, "valid", filters=False) if name == BASELINE else None
        found = runs.run(name, arm, setting, "valid", 0, build)
        metrics = judge.means(found.ranks[""]) if found.ranks else {}
        return Trial(setting, metrics, found.figures)

    if name == BASELINE:
        return Tuned(arm, [attempt(0.0)], 0.0)
    usual = tune(runs, judge, BASELINE, 1).trials[0].metrics["hr_p"]
    tried: dict[float, Trial] = {}
    for number in range(trials):
        kept = {x: one.metrics.get("hr_p", math.nan) / usual for x, one in tried.items()}
        setting = arm.first[number] if number < len(arm.first) else next_setting(kept)
        tried[setting] = attempt(setting)
    return Tuned(arm, list(tried.values()), choose(list(tried.values()), usual))


def tune_rate_adjusted(runs: Runs, judge: Judge) -> Tuned:
    """Tunes β of the rate-adjusted baseline, by the same rule as the objectives."""
    build = spread(runs, "valid", filters=False)
    found = runs.run(BASELINE, ARMS[BASELINE], 0.0, "valid", 0, build)
    trials = [
        Trial(b, judge.means(found.ranks[beta_name(b)]), found.figures)
        for b in runs.config.eval.rate_betas
    ]
    return Tuned(ARMS[BASELINE], trials, choose(trials, judge.means(found.ranks[""])["hr_p"]))


def test(runs: Runs, name: str, tuned: Tuned, seeds: Iterable[int]) -> list[Found]:
    """Runs the chosen setting on the test period, trained on both earlier periods, per seed."""
    build = spread(runs, "test", name == BASELINE) if name in SPREAD else None
    return [runs.run(name, tuned.arm, tuned.setting, "test", seed, build) for seed in seeds]


def choose(trials: list[Trial], usual: float) -> float:
    """Returns the setting that the rule chooses; `usual` is the HR_p of positives only."""
    hr_p, hr_n = (
        {one.setting: one.metrics.get(key, math.nan) for one in trials} for key in ("hr_p", "hr_n")
    )
    return chosen(hr_p, hr_n, usual)


def _mean(value_R: np.ndarray) -> float:
    return float(np.nanmean(value_R)) if np.isfinite(value_R).any() else math.nan
