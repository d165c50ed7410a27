"""Intervals over training seeds and users, paired between arms; fronts to compare at equal HR_p.

A resample draws users (the same for all arms and seeds: negflax/evaluate/bootstrap.py) and seeds
(with replacement, the same for all arms, as arms share each seed's warm start). An arm's figure is
the mean over seeds of the mean over users.

Shapes: S seeds, R requests, B resamples, P points of a front.
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
      user_R: user of each request.
    """
    seeds = {len(value_SR) for value_SR in values.values()}
    if len(seeds) != 1:
        raise ValueError(f"arms of {sorted(seeds)} seeds are not paired")
    count = seeds.pop()
    value_RM = np.concatenate(list(values.values())).T.astype(np.float64)
    weight_RM = (~np.isnan(value_RM)).astype(np.float64)
    draws_BM = resampled_means(value_RM, weight_RM, resamples=resamples, seed=seed, user_R=user_R)
    share_BS = np.random.default_rng(seed).multinomial(
        count, np.full(count, 1 / count), resamples
    ) / count  # fmt: skip
    means_M = ratio(np.nansum(value_RM, axis=0), weight_RM.sum(axis=0))
    found = {}
    for number, name in enumerate(values):
        of = slice(number * count, (number + 1) * count)
        draws_B = np.einsum("bs,bs->b", share_BS, draws_BM[:, of])
        found[name] = Estimate(float(np.mean(means_M[of])), draws_B)
    return found


def front_at(x: Estimate, front: list[tuple[Estimate, Estimate]]) -> Estimate:
    """A front's y where it has that x: between its points linearly, beyond its ends as at them.

    Args:
      x: such as an arm's HR_p.
      front: (x, y) of each point, such as (HR_p, HR_n) for each β.
    """
    x_P, y_P = (np.array([point[i].value for point in front]) for i in (0, 1))
    x_BP, y_BP = (np.stack([point[i].draws_B for point in front], axis=1) for i in (0, 1))
    value = _interpolated(np.array([x.value]), x_P[None], y_P[None])[0]
    return Estimate(float(value), _interpolated(x.draws_B, x_BP, y_BP))


def _interpolated(x_B: np.ndarray, x_BP: np.ndarray, y_BP: np.ndarray) -> np.ndarray:
    """np.interp, a front a resample."""
    order_BP = np.argsort(x_BP, axis=1)
    x_BP, y_BP = (np.take_along_axis(values, order_BP, 1) for values in (x_BP, y_BP))
    last_B = np.clip((x_BP < x_B[:, None]).sum(1), 1, x_BP.shape[1] - 1)[:, None]
    (x0_B, x1_B), (y0_B, y1_B) = (
        [np.take_along_axis(values, at, 1)[:, 0] for at in (last_B - 1, last_B)]
        for values in (x_BP, y_BP)
    )
    share_B = ratio(x_B - x0_B, x1_B - x0_B)
    return y0_B + np.clip(np.nan_to_num(share_B), 0, 1) * (y1_B - y0_B)


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
