"""Intervals over training seeds and users, paired between arms; fronts to compare at equal HR_p.

A resample draws users (the same for all arms and seeds: negflax/evaluate/bootstrap.py) and seeds
(with replacement, the same for all arms, as arms share each seed's warm start). An arm's figure is
the mean over seeds of the mean over users.

Shapes: S seeds, R queries, B resamples, P points of a front.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from negflax.evaluate.bootstrap import percentile_interval, ratio, resampled_means


class Estimate(NamedTuple):
    """A figure and its value under each resample.

    Attributes:
      value: on the data.
      draws_B: float64.
    """

    value: float
    draws_B: np.ndarray

    def interval(self) -> tuple[float, float, float]:
        """(value, low, high), 95 %."""
        return (self.value, *percentile_interval(self.draws_B))

    def minus(self, other: Estimate) -> Estimate:
        """The paired difference."""
        return Estimate(self.value - other.value, self.draws_B - other.draws_B)

    def relative(self, other: Estimate) -> Estimate:
        """The paired relative change, self / other − 1."""
        over = ratio(self.value, other.value) - 1, ratio(self.draws_B, other.draws_B) - 1
        return Estimate(float(over[0]), np.asarray(over[1]))


def estimates(
    values: Mapping[Any, np.ndarray], *, resamples: int, seed: int, user_R: np.ndarray
) -> dict[Any, Estimate]:
    """Hierarchical bootstrap of means.

    Args:
      values: name → (S, R), NaN where undefined; the same S for all.
      resamples: B.
      seed: of the draws.
      user_R: user of each query.
    """
    seeds = {len(value_SR) for value_SR in values.values()}
    if len(seeds) != 1:
        raise ValueError(f"arms of {sorted(seeds)} seeds are not paired")
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
    """What a front of settings has to offer at an arm's HR_p, resample by resample.

    Of the front's points, and those between neighbours, that one with the least HR_n which has at
    least that HR_p; if none has, the one with the most HR_p.

    Args:
      hr_p: the arm's.
      front: (HR_p, HR_n) of settings in the order of their strength.
      read: another metric of the same settings, which is wanted at that point; None: HR_n.
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
    """Weights (B, P) of the settings whose mixture the front offers at HR_p = x."""
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
    """The figure times a constant."""
    return Estimate(factor * x.value, factor * x.draws_B)


def below(change: Estimate, bound: float) -> str:
    """Whether a figure is at most `bound`: yes or no where its interval says so, else undecided."""
    _, low, high = change.interval()
    return "yes" if high <= bound else "no" if low > bound else "undecided"


def worthwhile(hr_n: Estimate, hr_p: Estimate) -> str:
    """Is HR_n at least 20 % lower for at most 10 % less HR_p (relative changes)?"""
    less = below(hr_n, -0.2), below(Estimate(-hr_p.value, -hr_p.draws_B), 0.1)
    if "no" in less:
        return "no"
    return "yes" if less == ("yes", "yes") else "undecided"


def dominates(hr_p: Estimate, hr_n: Estimate) -> bool:
    """By paired differences to another arm: better in one beyond its interval, the other no worse.

    No worse: the mean difference is not on the wrong side.
    """
    (p, p_low, _), (n, _, n_high) = hr_p.interval(), hr_n.interval()
    return (p_low > 0 and n <= 0) or (n_high < 0 and p >= 0)
