"""User-clustered bootstrap: users are drawn with replacement, all that is theirs comes along.

One request is one user, so a resample is a vector of user counts, and every metric of every arm is
a ratio of two sums under the same counts: one matrix product serves all of them, paired.
"""

from __future__ import annotations

import numpy as np

LEVEL = 0.95  # of every interval (SPEC section 5.6)
_CHUNK = 12_000_000  # user counts alive at a time, 48 MB: products of long blocks are the fast ones


def resampled_means(
    value_RM: np.ndarray, weight_RM: np.ndarray, *, resamples: int, seed: int
) -> np.ndarray:
    """Weighted means of M columns over the same resampled users.

    Args:
      value_RM: float64, anything where the weight is 0 (undefined).
      weight_RM: float64 ≥ 0.
      resamples: number of resamples.
      seed: of the draws.

    Returns:
      float64 (resamples, M); NaN where a resample holds no defined user of a column.
    """
    sums_RM = np.where(weight_RM > 0, value_RM * weight_RM, 0)
    both_RC, place_C = _distinct(np.concatenate([sums_RM, weight_RM], axis=1).astype(np.float32))
    num_users, columns = value_RM.shape
    rng = np.random.Generator(np.random.SFC64(seed))
    per_chunk = max(1, _CHUNK // max(num_users, 1))
    means = np.empty((resamples, columns))
    for start in range(0, resamples, per_chunk):
        stop = min(start + per_chunk, resamples)
        counts = np.empty((stop - start, num_users), np.float32)
        for row in counts:  # a loop over resamples: one at a time stays in the cache
            row[:] = np.bincount(rng.integers(0, num_users, num_users), minlength=num_users)
        sums = (counts @ both_RC).astype(np.float64)[:, place_C]
        with np.errstate(invalid="ignore"):
            means[start:stop] = sums[:, :columns] / sums[:, columns:]
    return means


def _distinct(columns_RC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct columns and where each one went: arms and metrics share many weights."""
    first: dict[bytes, int] = {}
    place_C = np.array([first.setdefault(c.tobytes(), len(first)) for c in columns_RC.T], int)
    _, chosen = np.unique(place_C, return_index=True)
    return columns_RC[:, chosen], place_C


def percentile_interval(draws_B: np.ndarray) -> tuple[float, float]:
    """The central 95 % of the draws; undefined draws (NaN) are left out; NaN if all are."""
    draws_B = np.sort(draws_B[~np.isnan(draws_B)])
    if not len(draws_B):
        return np.nan, np.nan
    # Order statistics, not interpolation: a ratio's draw may be infinite.
    tail = int((1 - LEVEL) / 2 * (len(draws_B) - 1))
    return float(draws_B[tail]), float(draws_B[len(draws_B) - 1 - tail])


def ratio(numerator: np.ndarray | float, denominator: np.ndarray | float) -> np.ndarray | float:
    """Quotient with x/0 = inf and 0/0 = NaN, silently."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(numerator, denominator)


def interval(
    values_R: np.ndarray, weights_R: np.ndarray | None = None, *, resamples: int, seed: int
) -> tuple[float, float, float]:
    """Mean of the defined requests with its bootstrap interval: (estimate, low, high).

    Args:
      values_R: one value a user, NaN where undefined.
      weights_R: weights of a micro mean; None weighs every defined user alike.
      resamples: number of resamples.
      seed: of the draws.
    """
    weight_R = _weights(values_R, weights_R)
    draws = resampled_means(values_R[:, None], weight_R[:, None], resamples=resamples, seed=seed)
    return _mean(values_R, weight_R), *percentile_interval(draws[:, 0])


def paired_bootstrap(
    values_a_R: np.ndarray,
    values_b_R: np.ndarray,
    statistic: str = "mean_difference",
    *,
    resamples: int,
    seed: int,
    weights_a_R: np.ndarray | None = None,
    weights_b_R: np.ndarray | None = None,
) -> tuple[float, float, float]:
    """Compares two arms on the same users: (estimate, low, high), a 95 % percentile interval.

    Args:
      values_a_R: arm a, one value a user, NaN where undefined for this arm.
      values_b_R: arm b, the same users in the same order.
      statistic: `mean_difference` (mean a - mean b) or `mean_ratio` (mean a / mean b), each mean
        over the arm's own defined users.
      resamples: number of resamples.
      seed: of the draws.
      weights_a_R: weights of a micro mean; None weighs every defined user alike.
      weights_b_R: the same for arm b.

    Raises:
      ValueError: an unknown statistic, or arms of different length.
    """
    if statistic not in ("mean_difference", "mean_ratio"):
        raise ValueError(f"statistic {statistic!r}: choose mean_difference or mean_ratio")
    if len(values_a_R) != len(values_b_R):
        raise ValueError(f"arms of {len(values_a_R)} and {len(values_b_R)} users are not paired")
    compare = np.subtract if statistic == "mean_difference" else ratio
    values = [np.asarray(v, np.float64) for v in (values_a_R, values_b_R)]
    weights = [_weights(v, w) for v, w in zip(values, (weights_a_R, weights_b_R), strict=True)]
    draws = resampled_means(
        np.stack(values, 1), np.stack(weights, 1), resamples=resamples, seed=seed
    )
    estimate = compare(_mean(values[0], weights[0]), _mean(values[1], weights[1]))
    return float(estimate), *percentile_interval(compare(draws[:, 0], draws[:, 1]))


def _weights(values_R: np.ndarray, weights_R: np.ndarray | None) -> np.ndarray:
    defined_R = ~np.isnan(values_R)
    return defined_R.astype(np.float64) if weights_R is None else np.where(defined_R, weights_R, 0)


def _mean(values_R: np.ndarray, weight_R: np.ndarray) -> float:
    return float(ratio(np.where(weight_R > 0, values_R * weight_R, 0).sum(), weight_R.sum()))
