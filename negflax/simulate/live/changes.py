"""Relative changes of arms against a control, with 95 % intervals.

Of one replicate: users are resampled, the same for both arms (paired bootstrap). Such an interval
takes the world and the trained models as given. Of several: Student's t of the replicates' log
ratios. A replicate has users, items, luck and training of its own, so all of that is in it.

Shapes: S replicates, U users, B resamples, C columns, D days.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from negflax.evaluate.bootstrap import LEVEL, percentile_interval, ratio, resampled_means
from negflax.simulate.live.user_metrics import METRICS, Sums, level

RESAMPLES = 2_000
HALVES = ("first", "second")  # of the days

Pair = tuple[str, str]  # (arm, its control)
Replicates = Sequence[Mapping[str, Sums]]  # arm → sums, of each replicate


class Change(NamedTuple):
    """A relative change, −.1 for 10 % less; NaN where it is not defined.

    Attributes:
      value: of one replicate; of several exp(mean log ratio) − 1.
      low: lower end of the 95 % interval.
      high: upper end.
      by_seed: the change in each replicate.
    """

    value: float
    low: float
    high: float
    by_seed: tuple[float, ...]


def changes(replicates: Replicates, pairs: Iterable[Pair]) -> dict[Pair, dict[str, Change]]:
    """Changes of every metric: pair → metric → change."""
    pairs = list(pairs)
    if len(replicates) == 1:
        return _over_users(replicates[0], pairs)
    return {
        (arm, control): {
            metric: over_replicates(
                [ratio(level(one[arm], metric), level(one[control], metric)) for one in replicates]
            )
            for metric in METRICS
        }
        for arm, control in pairs
    }


def by_half(replicates: Replicates, pairs: Iterable[Pair]) -> dict[Pair, dict[str, Change]]:
    """Changes of the daily curves' means, early and late: pair → `<curve>, first half` → change."""

    def mean(sums: Sums, curve: str, half: int) -> float:
        value_D = sums.curves[curve]
        middle = len(value_D) // 2
        part_D = value_D[middle:] if half else value_D[: max(1, middle)]
        return float(part_D[np.isfinite(part_D)].mean()) if np.isfinite(part_D).any() else np.nan

    return {
        (arm, control): {
            f"{curve}, {name} half": over_replicates(
                [
                    ratio(mean(one[arm], curve, half), mean(one[control], curve, half))
                    for one in replicates
                ]
            )
            for curve in replicates[0][control].curves
            for half, name in enumerate(HALVES)
        }
        for arm, control in pairs
    }


def mean_level(replicates: Replicates, arm: str, metric: str) -> float:
    """The metric itself, its mean over replicates."""
    return float(np.mean([level(one[arm], metric) for one in replicates]))


def over_replicates(ratio_S: Sequence[float]) -> Change:
    """Student's t of the log ratios; no interval from one replicate, nor from a ratio of 0."""
    ratio_S, count, half = np.asarray(ratio_S, np.float64), len(ratio_S), np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        log_S = np.log(ratio_S)
        mean = log_S.mean()
        if count > 1:
            t = stats.t.ppf((1 + LEVEL) / 2, count - 1)
            half = t * log_S.std(ddof=1) / np.sqrt(count)
        ends = np.expm1([mean, mean - half, mean + half])
    return Change(*map(float, ends), tuple(float(x) - 1 for x in ratio_S))


def _over_users(arms: Mapping[str, Sums], pairs: list[Pair]) -> dict[Pair, dict[str, Change]]:
    """Percentile intervals of the paired bootstrap; users are resampled once for all arms.

    Where every arm serves the same users, the intervals are paired; where users are split, the
    arms' users are drawn independently.
    """
    if not pairs:
        return {}
    wanted = sorted({arm for pair in pairs for arm in pair})
    columns = [(arm, metric) for arm in wanted for metric in METRICS]
    numerator_UC, denominator_UC = (
        np.stack([getattr(arms[arm], part)[metric] for arm, metric in columns], axis=1)
        for part in ("numerator", "denominator")
    )
    value_UC = np.where(denominator_UC > 0, ratio(numerator_UC, denominator_UC), 0)
    draws_BC = resampled_means(value_UC, denominator_UC, resamples=RESAMPLES, seed=0)
    point_C = ratio(numerator_UC.sum(0), denominator_UC.sum(0))
    place = {column: i for i, column in enumerate(columns)}

    def change(arm: str, control: str, metric: str) -> Change:
        a, c = place[arm, metric], place[control, metric]
        value = float(ratio(point_C[a], point_C[c])) - 1
        low, high = percentile_interval(ratio(draws_BC[:, a], draws_BC[:, c]))
        return Change(value, low - 1, high - 1, (value,))

    return {pair: {metric: change(*pair, metric) for metric in METRICS} for pair in pairs}
