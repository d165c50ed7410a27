"""User-clustered bootstrap in JAX: a resample draws users, with all of their queries.

Every metric of every arm is a ratio of two sums over users (scoreboard.py). A resample is a vector
of user counts, so one matrix product computes all metrics and arms in all resamples, paired. The
counts are independent Poisson(1) draws (the Poisson bootstrap: Hanley and MacGibbon 2006; Chamandy
et al., 2012). For ratios of sums this converges to drawing U of U users as U grows, and it needs
neither sorting nor scattering.

Shapes: R queries of U users, M metrics, C columns to sum, B resamples.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

LEVEL = 0.95  # level of every interval (docs/method.md §5.6)
_CHUNK = 3_000_000  # number of user counts in memory at a time, 12 MB
# A uniform 32-bit word is a Poisson(1) draw: the number of these thresholds that it reaches.
_POISSON = np.round(stats.poisson.cdf(np.arange(11), 1) * 2.0**32).astype(np.uint32)


def resampled_means(
    value_RM: np.ndarray,
    weight_RM: np.ndarray,
    *,
    resamples: int,
    seed: int,
    user_R: np.ndarray | None = None,
) -> np.ndarray:
    """Returns weighted means of M columns over the same resampled users.

    Args:
      value_RM: float64; ignored where the weight is 0 (undefined).
      weight_RM: float64 ≥ 0.
      resamples: number of resamples B.
      seed: random seed.
      user_R: the user of each query; None: each query is one user.

    Returns:
      float64 (B, M); NaN where a resample has no user for whom the column is defined.
    """
    sums_RM = np.where(weight_RM > 0, value_RM * weight_RM, 0)
    both_UC = np.concatenate([sums_RM, weight_RM], axis=1)
    if user_R is not None:
        both_UC = _by_user(both_UC, user_R)
    both_UC, place_C = _distinct(both_UC.astype(np.float32))
    per_chunk = max(1, min(_CHUNK // max(len(both_UC), 1), resamples))
    draws = np.asarray(_resampled_sums(both_UC, seed, -(-resamples // per_chunk), per_chunk))
    sums = draws.reshape(-1, draws.shape[-1])[:resamples].astype(np.float64)[:, place_C]
    with np.errstate(invalid="ignore"):
        return sums[:, : value_RM.shape[1]] / sums[:, value_RM.shape[1] :]


@functools.partial(jax.jit, static_argnums=(2, 3))
def _resampled_sums(columns_UC: jax.Array, seed: int, chunks: int, per_chunk: int) -> jax.Array:
    """Returns sums over users weighted by resampled counts, (chunks, per_chunk, C) float32.

    Resample b depends only on (seed, b), not on the division into chunks.
    """
    key, thresholds = jax.random.key(seed), jnp.asarray(_POISSON)

    def one_chunk(chunk: jax.Array) -> jax.Array:
        number_b = chunk * per_chunk + jnp.arange(per_chunk)
        keys_b = jax.vmap(lambda number: jax.random.fold_in(key, number))(number_b)
        bits_bU = jax.vmap(lambda k: jax.random.bits(k, (len(columns_UC),), jnp.uint32))(keys_b)
        counts_bU = sum((bits_bU >= threshold).astype(jnp.float32) for threshold in thresholds)
        return jnp.matmul(counts_bU, columns_UC, precision="highest")

    return jax.lax.map(one_chunk, jnp.arange(chunks))


def _by_user(columns_RC: np.ndarray, user_R: np.ndarray) -> np.ndarray:
    """Returns sums over the queries of each user."""
    order = np.argsort(user_R, kind="stable")
    starts = np.flatnonzero(np.diff(user_R[order], prepend=-1) != 0)
    return np.add.reduceat(columns_RC[order], starts, axis=0)


def _distinct(columns_RC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distinct columns, and the index of each column among them.

    Arms and metrics have many weight columns in common.
    """
    first: dict[bytes, int] = {}
    place_C = np.array([first.setdefault(c.tobytes(), len(first)) for c in columns_RC.T], int)
    _, chosen = np.unique(place_C, return_index=True)
    return columns_RC[:, chosen], place_C


def percentile_interval(draws_B: np.ndarray) -> tuple[float, float]:
    """Returns the central 95 % of the draws, ignoring NaN; NaN if all draws are."""
    draws_B = np.sort(draws_B[~np.isnan(draws_B)])
    if not len(draws_B):
        return np.nan, np.nan
    # Order statistics, not interpolation: a ratio's draw may be infinite.
    tail = int((1 - LEVEL) / 2 * (len(draws_B) - 1))
    return float(draws_B[tail]), float(draws_B[len(draws_B) - 1 - tail])


def p_value(draws_B: np.ndarray) -> float:
    """Returns the two-sided p-value of "no difference" from draws of a difference.

    It inverts the percentile interval: twice the share of draws on the rarer side of 0, where zeros
    count on both sides and the observed data count as one more draw. So it is at least 2 / (B + 1).
    It is NaN if no draw is defined.
    """
    draws_B = draws_B[~np.isnan(draws_B)]
    if not len(draws_B):
        return np.nan
    rarer = min((draws_B <= 0).sum(), (draws_B >= 0).sum())
    return float(min(1.0, 2 * (rarer + 1) / (len(draws_B) + 1)))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Returns Holm's step-down adjusted p-values of a family (Holm 1979), ignoring NaN."""
    p_F = np.asarray(p_values, np.float64)
    order = np.argsort(p_F)[: int((~np.isnan(p_F)).sum())]  # NaN sorts last
    steps = (len(order) - np.arange(len(order))) * p_F[order]
    adjusted_F = np.full(len(p_F), np.nan)
    adjusted_F[order] = np.minimum(np.maximum.accumulate(steps), 1) if len(order) else steps
    return adjusted_F


def ratio(numerator: np.ndarray | float, denominator: np.ndarray | float) -> np.ndarray | float:
    """Returns the quotient, with x/0 = inf and 0/0 = NaN without warnings."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(numerator, denominator)


def interval(
    values_R: np.ndarray,
    weights_R: np.ndarray | None = None,
    *,
    resamples: int,
    seed: int,
    user_R: np.ndarray | None = None,
) -> tuple[float, float, float]:
    """Returns the mean over the defined queries with its interval: (estimate, low, high).

    Args:
      values_R: one value per query, NaN where undefined.
      weights_R: weights of a micro mean; None: all defined queries have equal weight.
      resamples: number of resamples.
      seed: random seed.
      user_R: the user of each query; None: each query is one user.
    """
    weight_R = _weights(values_R, weights_R)
    draws = resampled_means(
        values_R[:, None], weight_R[:, None], resamples=resamples, seed=seed, user_R=user_R
    )
    return _mean(values_R, weight_R), *percentile_interval(draws[:, 0])


def paired_bootstrap(
    values_a_R: np.ndarray,
    values_b_R: np.ndarray,
    statistic: str = "mean_difference",
    *,
    resamples: int,
    seed: int,
    weights_R: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
    user_R: np.ndarray | None = None,
) -> tuple[float, float, float]:
    """Compares two arms on the same users: (estimate, low, high), a 95 % percentile interval.

    Args:
      values_a_R: arm a, one value per query, NaN where undefined for this arm.
      values_b_R: arm b, the same queries in the same order.
      statistic: `mean_difference` (mean a - mean b) or `mean_ratio` (mean a / mean b), each mean
        over the arm's own defined queries.
      resamples: number of resamples.
      seed: random seed.
      weights_R: weights of micro means, for arms a and b; None: equal weights.
      user_R: the user of each query; None: each query is one user.

    Raises:
      ValueError: the statistic is unknown, or the arms differ in length.
    """
    if statistic not in ("mean_difference", "mean_ratio"):
        raise ValueError(f"statistic {statistic!r}: choose mean_difference or mean_ratio")
    if len(values_a_R) != len(values_b_R):
        raise ValueError(
            f"the arms have {len(values_a_R)} and {len(values_b_R)} values: give both for the same "
            "queries"
        )
    compare = np.subtract if statistic == "mean_difference" else ratio
    values = [np.asarray(v, np.float64) for v in (values_a_R, values_b_R)]
    weights = [_weights(v, w) for v, w in zip(values, weights_R, strict=True)]
    draws = resampled_means(
        np.stack(values, 1), np.stack(weights, 1), resamples=resamples, seed=seed, user_R=user_R
    )
    estimate = compare(_mean(values[0], weights[0]), _mean(values[1], weights[1]))
    return float(estimate), *percentile_interval(compare(draws[:, 0], draws[:, 1]))


def _weights(values_R: np.ndarray, weights_R: np.ndarray | None) -> np.ndarray:
    defined_R = ~np.isnan(values_R)
    return defined_R.astype(np.float64) if weights_R is None else np.where(defined_R, weights_R, 0)


def _mean(values_R: np.ndarray, weight_R: np.ndarray) -> float:
    return float(ratio(np.where(weight_R > 0, values_R * weight_R, 0).sum(), weight_R.sum()))
