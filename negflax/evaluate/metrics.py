"""The metrics of docs/method.md §6, from ranks, vectorised in JAX over queries and list lengths.

Ties count as their exact expectation (expectation.py). A metric is a mean over queries, or for
micro metrics a ratio of two sums over queries; both are given by a value and a weight per query.
They are computed in float64 on the host's CPU: the numbers are few, and ranks come from the host.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from negflax.config import EvalConfig
from negflax.evaluate import expectation
from negflax.evaluate.expectation import Judged
from negflax.evaluate.protocol import EvaluationError, Queries
from negflax.evaluate.ranking import Ranks


class QueryValues(NamedTuple):
    """One metric per query; the metric is the weighted mean over its defined queries.

    Attributes:
      value_R: float64, NaN where the metric is undefined.
      weight_R: float64, 0 where undefined; elsewhere 1, or for micro metrics (coverage,
        negative_f1, weighted_loss, ranks) the query's contribution to the denominator.
    """

    value_R: np.ndarray
    weight_R: np.ndarray

    @property
    def count(self) -> int:
        """Number of queries for which the metric is defined."""
        return int((self.weight_R > 0).sum())

    def mean(self) -> float:
        """Returns the metric; NaN if it is undefined for all queries."""
        total = self.weight_R.sum()
        return float(np.nansum(self.value_R * self.weight_R) / total) if total > 0 else np.nan


def query_values(
    ranks: Ranks, queries: Queries, config: EvalConfig, counted_J: np.ndarray | None = None
) -> dict[str, QueryValues]:
    """Returns every metric per query, keyed as in docs/method.md §6 (`hr_p@10`, `auc`, ...).

    docs/metrics.md has the formulas, and the queries for which each metric is undefined. Items
    seen before are not judged in masked mode.

    Args:
      ranks: ranks from `rank_queries`.
      queries: queries that were ranked.
      config: list lengths K, values of λ, w⁻ of the weighted loss.
      counted_J: bool, which judged items count, for metrics on a subset of them; None: all.

    Raises:
      EvaluationError: an item is judged twice within a query.
    """
    _check_distinct(queries)
    counted_J = ranks.eligible_J if counted_J is None else ranks.eligible_J & counted_J
    size, rows = _power_of_two(len(counted_J)), _power_of_two(len(queries))

    def padded(values_J: np.ndarray, fill: float, dtype: type = np.float64) -> np.ndarray:
        values_J = np.where(counted_J, values_J, fill).astype(dtype)
        return np.pad(values_J, (0, size - len(values_J)), constant_values=fill)

    judged = Judged(
        query_J=padded(queries.query_J, rows, np.int64),
        greater_J=padded(ranks.greater_J, 0),
        ties_J=padded(ranks.ties_J, 1),
        positive_J=padded(queries.judged_positive_J, 0),
        negative_J=padded(~queries.judged_positive_J, 0),
    )
    loss_J = -np.where(queries.judged_positive_J, ranks.log_p_J, ranks.log_not_p_J)
    ks = np.array(config.ks, np.float64)
    upto = np.concatenate(
        [[0.0], np.cumsum(1 / np.log2(np.arange(_power_of_two(max(config.ks))) + 2))]
    )
    lambdas = np.array(config.lambdas, np.float64)
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        lists = _list_metrics(judged, ks, lambdas, upto, rows)
        rest = _other_metrics(judged, padded(loss_J, 0), config.loss_weight_negative, rows)
        lists, rest = jax.tree.map(np.asarray, (lists, rest))

    def values(value_R: np.ndarray, weight_R: np.ndarray) -> QueryValues:
        value_R, weight_R = value_R[: len(queries)], weight_R[: len(queries)]
        return QueryValues(np.where(weight_R > 0, value_R, np.nan), weight_R)

    found = {}
    for row, k in enumerate(config.ks):
        for name, (value, weight) in lists.items():
            if value.ndim == 2:
                found[f"{name}@{k}"] = values(value[row], weight[row])
                continue
            for column, one in enumerate(config.lambdas):
                key = f"{name}@{k}/lambda={one:g}"
                found[key] = values(value[row, column], weight[row, column])
    return found | {name: values(*pair) for name, pair in rest.items()}


def aggregate(values: Mapping[str, QueryValues]) -> dict[str, float]:
    """Returns the metrics over all queries and delta = hr_p - hr_n; NaN where undefined."""
    means = {key: value.mean() for key, value in values.items()}
    for key in [key for key in means if key.startswith("hr_p@")]:
        k = key.removeprefix("hr_p@")
        means[f"delta@{k}"] = means[key] - means[f"hr_n@{k}"]
    return means


@functools.partial(jax.jit, static_argnums=4)
def _list_metrics(
    judged: Judged, ks: jax.Array, lambdas: jax.Array, upto: jax.Array, num_queries: int
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Returns name → (values, weights), each (Ks, R), or (Ks, λs, R) for metrics with a λ."""

    def per_query(value_J: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(value_J, judged.query_J, num_queries)

    size_P, size_N = per_query(judged.positive_J), per_query(judged.negative_J)
    any_P, any_N, any_J = size_P > 0, size_N > 0, size_P + size_N > 0

    def at(k: jax.Array) -> dict[str, tuple[jax.Array, jax.Array]]:
        in_list_J = expectation.in_list(judged, k)
        gain_J = expectation.gain(judged, k, upto)
        cut = expectation.cut_of(judged, in_list_J, k, num_queries)
        hits_P, hits_N, dcg_P, dcg_N, listed_P, listed_N, avoided_P, avoided_N = (
            per_query(value_J * sign_J)
            for value_J in (in_list_J, gain_J, in_list_J == 1, in_list_J == 0)
            for sign_J in (judged.positive_J, judged.negative_J)
        )
        ideal_P, ideal_N = (upto[jnp.minimum(n, k).astype(int)] for n in (size_P, size_N))
        hr_p = expectation.hit_probability(listed_P, cut.positives_R, cut)
        hr_n = expectation.hit_probability(listed_N, cut.negatives_R, cut)
        kept_out_R = 1 - _ratio(hits_N, size_N)
        # Metric 8: F1 of |N∩A| / |A| and |N∩A| / |N|, pooled over queries with N ≠ ∅.
        avoided_negatives_R = size_N - hits_N
        judgements_R = (size_P - hits_P + avoided_negatives_R + size_N) * any_N
        weigh = lambdas[:, None]
        dcg = dcg_P - weigh * dcg_N
        worst, best = -weigh * ideal_N, ideal_P + 0 * weigh  # DCG with all N, or all P*, on top
        everywhere, positive = (jnp.broadcast_to(x, dcg.shape) for x in (any_J, any_P))
        return {
            "precision": (hits_P / k, any_P),
            "recall": (_ratio(hits_P, size_P), any_P),
            "anti_precision": (hits_N / k, any_N),
            "dcg": (dcg, everywhere),
            "ndcg_signed": (_ratio(dcg, best), positive),
            "ndcg_minmax": (_ratio(dcg - worst, best - worst), best - worst > 0),
            "ndcg_p": (_ratio(dcg_P, ideal_P), any_P),
            "anti_ndcg": (_ratio(dcg_N, ideal_N), any_N),
            "coverage": (kept_out_R, size_N),
            "coverage_macro": (kept_out_R, any_N),
            "avoidance": (1 - hr_n, any_N),
            "hr_p": (hr_p, any_P),
            "hr_n": (hr_n, any_N),
            "negative_precision": expectation.negative_precision(
                avoided_P + avoided_N, avoided_N, cut
            ),
            "negative_f1": (_ratio(2 * avoided_negatives_R, judgements_R), judgements_R),
            "utility": (hits_P - weigh * hits_N, everywhere),
        }

    return jax.tree.map(lambda x: x.astype(float), jax.vmap(at)(ks))


@functools.partial(jax.jit, static_argnums=3)
def _other_metrics(
    judged: Judged, loss_J: jax.Array, weight_negative: float, num_queries: int
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Returns name → (values (R,), weights (R,)) of the metrics that do not depend on K."""

    def mean(value_J: jax.Array, weight_J: jax.Array) -> tuple[jax.Array, jax.Array]:
        sums = (
            jax.ops.segment_sum(x, judged.query_J, num_queries)
            for x in (value_J * weight_J, weight_J)
        )
        total_R, weight_R = sums
        return _ratio(total_R, weight_R), weight_R

    auc_R, has_pairs_R = expectation.auc(judged, num_queries)
    rank_J = judged.greater_J + (judged.ties_J + 1) / 2
    return {
        "auc": (auc_R, has_pairs_R.astype(float)),
        "weighted_loss": mean(loss_J, judged.positive_J + weight_negative * judged.negative_J),
        "positive_rank": mean(rank_J, judged.positive_J),
        "negative_rank": mean(rank_J, judged.negative_J),
    }


def _check_distinct(queries: Queries) -> None:
    width = int(queries.judged_item_J.max(initial=0)) + 1
    if len(np.unique(queries.query_J * width + queries.judged_item_J)) < len(queries.judged_item_J):
        raise EvaluationError("a query has the same judged item twice: give each item once")


def _ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """Returns the quotient; finite but meaningless where the denominator is 0."""
    return numerator / jnp.where(denominator > 0, denominator, 1)


def _power_of_two(size: int) -> int:
    """Rounds a size up, so that there are few shapes and few programs to compile."""
    return 1 << max(size - 1, 15).bit_length()
