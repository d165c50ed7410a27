"""The metrics of SPEC section 6, from ranks, with ties counted as their exact expectation.

An item with g items above it and t in its tie group (itself included) stands at a place drawn
evenly from g+1 .. g+t. Every list metric is the expectation over that draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from negflax.evaluate.protocol import EvaluationError, Requests
from negflax.evaluate.ranking import Ranks


class RequestValues(NamedTuple):
    """One metric, request by request; the metric is the weighted mean of its defined requests.

    Attributes:
      value_R: float64, NaN where the metric is undefined.
      weight_R: float64, 0 where undefined; elsewhere 1, or for micro metrics (coverage,
        weighted_loss) what the request brings to the denominator.
    """

    value_R: np.ndarray
    weight_R: np.ndarray

    @property
    def count(self) -> int:
        """Requests for which the metric is defined."""
        return int((self.weight_R > 0).sum())

    def mean(self) -> float:
        """The metric; NaN if it is defined for no request."""
        total = self.weight_R.sum()
        return float(np.nansum(self.value_R * self.weight_R) / total) if total > 0 else np.nan


class _Side(NamedTuple):
    """The judged items of one sign: request, items above, tie group, and their number a request."""

    request_J: np.ndarray
    greater_J: np.ndarray
    ties_J: np.ndarray
    count_R: np.ndarray

    def per_request(self, value_J: np.ndarray) -> np.ndarray:
        return np.bincount(self.request_J, value_J, len(self.count_R))


def request_values(
    ranks: Ranks, requests: Requests, ks: Sequence[int], loss_weight_negative: float
) -> dict[str, RequestValues]:
    """Every metric of every request, keyed as in SPEC section 6 (`hr_p@10`, `auc`, ...).

    A metric about positives (precision, recall, hr_p, ndcg_p) is undefined for a request without a
    judged positive, one about negatives (anti_precision, hr_n, anti_ndcg, coverage, avoidance)
    without a judged negative, auc without both. Items seen before (masked mode) are not judged.

    Args:
      ranks: from `rank_requests`.
      requests: the requests that were ranked.
      ks: list lengths K.
      loss_weight_negative: w⁻ of weighted_loss, with w⁺ = 1.

    Raises:
      EvaluationError: an item is judged twice within a request.
    """
    _check_distinct(requests)
    positive, negative = (
        _side(ranks, requests, requests.judged_positive_J == sign) for sign in (True, False)
    )
    values: dict[str, RequestValues] = {}
    for k in ks:
        in_list_P, in_list_N = (_in_list(side, k) for side in (positive, negative))
        hits_P, hits_N = positive.per_request(in_list_P), negative.per_request(in_list_N)
        hr_p, hr_n = _hit_rate(positive, k), _hit_rate(negative, k)
        values |= {
            f"hr_p@{k}": _per_request(hr_p, positive.count_R),
            f"hr_n@{k}": _per_request(hr_n, negative.count_R),
            f"ndcg_p@{k}": _per_request(_normalized_gain(positive, k), positive.count_R),
            f"anti_ndcg@{k}": _per_request(_normalized_gain(negative, k), negative.count_R),
            f"precision@{k}": _per_request(hits_P / k, positive.count_R),
            f"recall@{k}": _per_request(_ratio(hits_P, positive.count_R), positive.count_R),
            f"anti_precision@{k}": _per_request(hits_N / k, negative.count_R),
            f"avoidance@{k}": _per_request(1 - hr_n, negative.count_R),
        }
        kept_out_R = 1 - _ratio(hits_N, negative.count_R)
        values[f"coverage@{k}"] = _weighted(kept_out_R, negative.count_R)
        values[f"coverage_macro@{k}"] = _per_request(kept_out_R, negative.count_R)
    values["auc"] = _per_request(_auc(positive, negative), positive.count_R * negative.count_R)
    values["weighted_loss"] = _weighted_loss(ranks, requests, loss_weight_negative)
    return values


def aggregate(values: Mapping[str, RequestValues]) -> dict[str, float]:
    """The metrics of a set of requests; NaN where none defines it. Adds delta = hr_p - hr_n."""
    means = {key: value.mean() for key, value in values.items()}
    for key in [key for key in means if key.startswith("hr_p@")]:
        k = key.removeprefix("hr_p@")
        means[f"delta@{k}"] = means[key] - means[f"hr_n@{k}"]
    return means


def _check_distinct(requests: Requests) -> None:
    width = int(requests.judged_item_J.max(initial=0)) + 1
    if len(np.unique(requests.request_J * width + requests.judged_item_J)) < len(
        requests.judged_item_J
    ):
        raise EvaluationError("an item is judged twice within a request: judge each item once")


def _side(ranks: Ranks, requests: Requests, sign_J: np.ndarray) -> _Side:
    chosen_J = ranks.eligible_J & sign_J
    request_J = requests.request_J[chosen_J]
    count_R = np.bincount(request_J, minlength=len(requests))
    return _Side(request_J, ranks.greater_J[chosen_J], ranks.ties_J[chosen_J], count_R)


def _in_list(side: _Side, k: int) -> np.ndarray:
    """Probability that each item is among the first K."""
    return np.clip((k - side.greater_J) / side.ties_J, 0, 1)


def _hit_rate(side: _Side, k: int) -> np.ndarray:
    """Probability that a request's list holds at least one item of this side.

    Only the tie group that K cuts is open: s = K - g of its t places are in the list. Of its t
    items m are of this side, and all miss with the hypergeometric C(t-m, s) / C(t, s).
    """
    in_list_J = _in_list(side, k)
    certain_R = side.per_request(in_list_J == 1) > 0
    cut_J = (in_list_J > 0) & (in_list_J < 1)
    m_R = side.per_request(cut_J)
    s_R, t_R = np.zeros((2, len(m_R)))
    s_R[side.request_J[cut_J]] = (k - side.greater_J)[cut_J]
    t_R[side.request_J[cut_J]] = side.ties_J[cut_J]
    free_R = np.maximum(t_R - m_R - s_R, 0)  # room for all m below the cut, else a hit is certain
    log_miss_R = (
        gammaln(t_R - m_R + 1) + gammaln(t_R - s_R + 1) - gammaln(free_R + 1) - gammaln(t_R + 1)
    )
    miss_R = np.where(t_R - m_R - s_R >= 0, np.exp(log_miss_R), 0.0)
    return np.where(certain_R, 1.0, 1.0 - np.where(m_R > 0, miss_R, 1.0))


def _normalized_gain(side: _Side, k: int) -> np.ndarray:
    """Expected Σ 1/log2(place + 1) over the list, divided by its largest possible value."""
    upto = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(k) + 2))])
    last_J = np.minimum(side.greater_J + side.ties_J, k)
    gain_J = (upto[last_J] - upto[np.minimum(side.greater_J, k)]) / side.ties_J
    return _ratio(side.per_request(gain_J), upto[np.minimum(side.count_R, k)])


def _auc(positive: _Side, negative: _Side) -> np.ndarray:
    """P(score⁺ > score⁻) + P(equal) / 2 over the pairs of a request, as a rank sum (Mann–Whitney).

    Two items of a request are tied if and only if equally many items are above them.
    """
    request_J = np.concatenate([positive.request_J, negative.request_J])
    greater_J = np.concatenate([positive.greater_J, negative.greater_J])
    sign_J = np.arange(len(request_J)) < len(positive.request_J)
    width = greater_J.max(initial=0) + 1
    key_G, group_J, size_G = np.unique(
        request_J * width + greater_J, return_inverse=True, return_counts=True
    )
    count_R = positive.count_R + negative.count_R
    before_R = np.cumsum(count_R) - count_R
    mean_place_G = np.cumsum(size_G) - (size_G - 1) / 2 - before_R[key_G // width]  # 1 = best
    place_J = mean_place_G[group_J]
    sum_R = np.bincount(request_J[sign_J], place_J[sign_J], len(count_R))
    n_P = positive.count_R
    lost_R = sum_R - n_P * (n_P + 1) / 2
    return 1 - _ratio(lost_R, n_P * negative.count_R)


def _weighted_loss(ranks: Ranks, requests: Requests, weight_negative: float) -> RequestValues:
    """Metric 9: Σ w·l / Σ w, l = -log p on positives, -log(1 - p) on negatives."""
    chosen_J = ranks.eligible_J
    positive_J = requests.judged_positive_J[chosen_J]
    weight_J = np.where(positive_J, 1.0, weight_negative)
    loss_J = -np.where(positive_J, ranks.log_p_J[chosen_J], ranks.log_not_p_J[chosen_J])
    request_J = requests.request_J[chosen_J]
    weight_R = np.bincount(request_J, weight_J, len(requests))
    return _weighted(
        _ratio(np.bincount(request_J, weight_J * loss_J, len(requests)), weight_R), weight_R
    )


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(
        numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0
    )


def _per_request(value_R: np.ndarray, count_R: np.ndarray) -> RequestValues:
    return _weighted(value_R, (count_R > 0).astype(np.float64))


def _weighted(value_R: np.ndarray, weight_R: np.ndarray) -> RequestValues:
    weight_R = weight_R.astype(np.float64)
    return RequestValues(np.where(weight_R > 0, value_R, np.nan), weight_R)
