"""Paired intervals over training seeds and users, and comparison with a front at equal HR_p.

A resample draws users (negflax/evaluate/bootstrap.py) and seeds, both with replacement. It draws
the same users and seeds for all arms, as arms share each seed's warm start. An arm's figure is the
mean over seeds of the mean over users.

Shapes: S seeds, R queries, B resamples, P points of a front.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from negflax.evaluate.bootstrap import percentile_interval, ratio, resampled_means


class Estimate(NamedTuple):
    """A figure with its value in each resample.

    Attributes:
      value: value on the data.
      draws_B: float64, value in each resample.
    """

    value: float
    draws_B: np.ndarray

    def interval(self) -> tuple[float, float, float]:
        """Returns (value, low, high) with a 95 % interval."""
        return (self.value, *percentile_interval(self.draws_B))

    def minus(self, other: Estimate) -> Estimate:
        """Returns the paired difference."""
        return Estimate(self.value - other.value, self.draws_B - other.draws_B)

    def relative(self, other: Estimate) -> Estimate:
        """Returns the paired relative change, self / other − 1."""
        over = ratio(self.value, other.value) - 1, ratio(self.draws_B, other.draws_B) - 1
        return Estimate(float(over[0]), np.asarray(over[1]))


def estimates(
    values: Mapping[Any, np.ndarray], *, resamples: int, seed: int, user_R: np.ndarray
) -> dict[Any, Estimate]:
    """Returns means over seeds and users with a hierarchical bootstrap.

    Args:
      values: name → (S, R), NaN where undefined; the same S for all.
      resamples: number of resamples B.
      seed: random seed.
      user_R: user of each query.

    Raises:
      ValueError: the numbers of seeds differ.
    """
    seeds = {len(value_SR) for value_SR in values.values()}
    if len(seeds) != 1:
        raise ValueError(f"arms have {sorted(seeds)} seeds: give all of them the same seeds")
    count = seeds.pop()
    value_RM = np.concatenate(list(values.values())).T.astype(np.float64)
    weight_RM = (~np.isnan(value_RM)).astype(np.float64)
    draws_BM = resampled_means(value_RM, weight_RM, resamples=resamples, seed=seed, user_R=user_R)
    share_BS = (
        np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples) / count
    )
    means_M = ratio(np.nansum(value_RM, axis=0), weight_RM.sum(axis=0))
    found = {}
    for number, name in enumerate(values):
        of = slice(number * count, (number + 1) * count)
        draws_B = np.einsum("bs,bs->b", share_BS, draws_BM[:, of])
        found[name] = Estimate(float(np.mean(means_M[of])), draws_B)
    return found


def front_at(
    hr_p: Estimate, front: list[tuple[Estimate, Estimate]], read: list[Estimate] | None = None
) -> Estimate:
    """Returns a front's metric at the HR_p of an arm, computed in each resample.

    The front consists of its settings and of mixtures of neighbouring ones. The metric is taken at
    the point with the lowest HR_n among those with at least the arm's HR_p; if there is none, at
    the setting with the highest HR_p.

    Args:
      hr_p: HR_p of the arm.
      front: (HR_p, HR_n) of the settings, from weak to strong.
      read: metric of the settings to return; None: HR_n.
    """
    p_BP, n_BP = (np.stack([point[i].draws_B for point in front], 1) for i in (0, 1))
    p_1P, n_1P = (np.array([[point[i].value for point in front]]) for i in (0, 1))
    of = read or [n for _, n in front]
    draws_BP = np.stack([one.draws_B for one in of], 1)
    weight_1P = _choice(np.array([hr_p.value]), p_1P, n_1P)
    weight_BP = _choice(hr_p.draws_B, p_BP, n_BP)
    value = np.sum(weight_1P[0] * [one.value for one in of])
    return Estimate(float(value), np.sum(weight_BP * draws_BP, axis=1))


def _choice(x_B: np.ndarray, p_BP: np.ndarray, n_BP: np.ndarray) -> np.ndarray:
    """Returns weights (B, P) of the settings, whose mixture is the front's point at HR_p = x."""
    every, points = np.arange(len(x_B)), p_BP.shape[1]
    there_BP = p_BP >= x_B[:, None]
    share_BQ = np.nan_to_num(ratio(x_B[:, None] - p_BP[:, :-1], np.diff(p_BP)))  # Q = P - 1 gaps
    share_BQ = np.clip(share_BQ, 0, 1)
    between_BQ = n_BP[:, :-1] + share_BQ * np.diff(n_BP)
    crosses_BQ = there_BP[:, :-1] != there_BP[:, 1:]
    least = np.concatenate(
        [np.where(there_BP, n_BP, np.inf), np.where(crosses_BQ, between_BQ, np.inf)], axis=1
    )
    best_B = np.where(there_BP.any(1), least.argmin(1), p_BP.argmax(1))
    weight_BP = np.zeros(p_BP.shape)
    gap_B = best_B - points
    single_B = gap_B < 0
    weight_BP[every[single_B], best_B[single_B]] = 1
    some_B, gap_B = every[~single_B], gap_B[~single_B]
    weight_BP[some_B, gap_B] = 1 - share_BQ[some_B, gap_B]
    weight_BP[some_B, gap_B + 1] = share_BQ[some_B, gap_B]
    return weight_BP


def scaled(x: Estimate, factor: float) -> Estimate:
    """Returns the figure times a constant."""
    return Estimate(factor * x.value, factor * x.draws_B)


def below(change: Estimate, bound: float) -> str:
    """Returns whether a figure is at most `bound`; `undecided` if its interval covers the bound."""
    _, low, high = change.interval()
    return "yes" if high <= bound else "no" if low > bound else "undecided"


def worthwhile(hr_n: Estimate, hr_p: Estimate) -> str:
    """Returns whether HR_n falls by at least 20 % and HR_p by at most 10 % (relative changes)."""
    less = below(hr_n, -0.2), below(Estimate(-hr_p.value, -hr_p.draws_B), 0.1)
    if "no" in less:
        return "no"
    return "yes" if less == ("yes", "yes") else "undecided"


def dominates(hr_p: Estimate, hr_n: Estimate) -> bool:
    """Returns whether an arm dominates another, given paired differences to it.

    It is better in one metric by more than the interval, and not worse in the other by the mean.
    """
    (p, p_low, _), (n, _, n_high) = hr_p.interval(), hr_n.interval()
    return (p_low > 0 and n <= 0) or (n_high < 0 and p >= 0)
