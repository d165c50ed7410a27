"""Relative changes of arms compared with a control, with 95 % intervals.

With one replicate, users are resampled, the same ones for both arms (paired bootstrap); such an
interval is conditional on the world and the trained models. With several replicates, the interval
is Student's t interval of their log ratios. Each replicate has its own users, items, random numbers
and training, so this interval covers the variation of all of them.

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
    """A relative change, such as −.1 for 10 % less; NaN if undefined.

    Attributes:
      value: the change; for several replicates exp(mean log ratio) − 1.
      low: lower end of the 95 % interval.
      high: upper end.
      by_seed: the change in each replicate.
    """

    value: float
    low: float
    high: float
    by_seed: tuple[float, ...]


def changes(replicates: Replicates, pairs: Iterable[Pair]) -> dict[Pair, dict[str, Change]]:
    """Returns the change of every metric: pair → metric → change."""
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
    """Returns changes of the daily curves' means over each half of the days.

    They are keyed by pair, then by `<curve>, first half` or `<curve>, second half`.
    """

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
    """Returns the mean of a metric over replicates."""
    return float(np.mean([level(one[arm], metric) for one in replicates]))


def over_replicates(ratio_S: Sequence[float]) -> Change:
    """Returns the change with Student's t interval of the log ratios.

    The interval is NaN for one replicate, or if a ratio is 0.
    """
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
    """Returns changes with percentile intervals; users are resampled once for all arms.

    If every arm serves the same users, this is a paired bootstrap; if users are split among the
    arms, the users of two arms are drawn independently.
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
