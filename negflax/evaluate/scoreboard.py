"""Scorers side by side: every metric, interval and ratio of a split in one flat dictionary.

Keys (SPEC section 6 names them): the model's metrics with seen items masked are plain, the rest is
prefixed.

    ndcg_p@10                             the model, seen items masked (the headline)
    popularity/ndcg_p@10                  a floor, the same mode
    kept/ndcg_p@10, kept/markov/auc       seen items kept
    ndcg_p@10/vs_popularity               ratio of the model to the floor, same users
    ..._low, ..._high                     95 % user-clustered paired bootstrap interval
    ..._n                                 requests for which the metric is defined
    users, positives, negatives           requests and judged items; kept/... likewise
    seen_positives, seen_negatives        left out of the headline: the user had them before
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from negflax.config import EvalConfig
from negflax.data import Sequences
from negflax.evaluate.bootstrap import percentile_interval, ratio, resampled_means
from negflax.evaluate.metrics import RequestValues, aggregate, request_values
from negflax.evaluate.protocol import Requests, Scorer, build_requests
from negflax.evaluate.ranking import Ranks, rank_modes, rank_requests

MODEL = "model"  # the scorer whose keys carry no name
RATIOS = ("hr_p", "hr_n", "ndcg_p", "anti_ndcg")  # compared with every other scorer, at each K


@dataclasses.dataclass(frozen=True)
class Result:
    """What an evaluation found.

    Attributes:
      metrics: flat figures, ready for JSON: float, int, or None where undefined.
      requests: the requests behind them.
      values: (masked, scorer) → metric → values request by request, for further comparisons.
    """

    metrics: dict[str, float | int | None]
    requests: Requests
    values: dict[tuple[bool, str], dict[str, RequestValues]]


def evaluate_scorer(
    scorer: Scorer,
    requests: Requests,
    sequences: Sequences,
    config: EvalConfig,
    masked: bool = True,
    name: str = MODEL,
) -> dict[str, float | None]:
    """Plain metrics of one scorer, no intervals: for validation during training.

    Raises:
      EvaluationError: see `rank_requests`.
    """
    ranks = rank_requests(scorer, requests, sequences, masked, config.users_per_block, name)
    values = request_values(ranks, requests, config.ks, config.loss_weight_negative)
    return {key: _json(value) for key, value in aggregate(values).items()}


def evaluate_scorers(
    scorers: Mapping[str, Scorer], sequences: Sequences, config: EvalConfig, split: str
) -> Result:
    """All metrics of all scorers on a split, seen items masked and kept; keys in the module's head.

    Args:
      scorers: by name; `model` is the one whose keys carry no name and that is compared with the
        others. Floors: `negflax.evaluate.default_floors`.
      sequences: events of all users.
      config: list lengths, block size, loss weight, bootstrap resamples and seed.
      split: `valid` or `test`.

    Raises:
      EvaluationError: no labelled event in the split, or scores that are not finite.
    """
    requests = build_requests(sequences, split)
    values, counts = {}, {}
    for name, scorer in scorers.items():
        modes = rank_modes(scorer, requests, sequences, (True, False), config.users_per_block, name)
        for masked, ranks in modes.items():
            values[masked, name] = request_values(
                ranks, requests, config.ks, config.loss_weight_negative
            )
            counts |= _counts(ranks, requests, masked)
    return Result({**counts, **_figures(values, config)}, requests, values)


def metric_key(metric: str, scorer: str = MODEL, masked: bool = True) -> str:
    """Where a scorer's metric stands in `Result.metrics`."""
    return ("" if masked else "kept/") + ("" if scorer == MODEL else f"{scorer}/") + metric


def _counts(ranks: Ranks, requests: Requests, masked: bool) -> dict[str, int]:
    mode = "" if masked else "kept/"
    positive_J, eligible_J = requests.judged_positive_J, ranks.eligible_J
    counts = {
        f"{mode}users": len(requests),
        f"{mode}positives": int((positive_J & eligible_J).sum()),
        f"{mode}negatives": int((~positive_J & eligible_J).sum()),
    }
    if masked:
        counts["seen_positives"] = int((positive_J & ~eligible_J).sum())
        counts["seen_negatives"] = int((~positive_J & ~eligible_J).sum())
    return counts


class _Estimate(NamedTuple):
    """A metric of one scorer and mode, with its value under every resample of the users."""

    mean: float
    draws_B: np.ndarray
    count: int


def _figures(
    values: Mapping[tuple[bool, str], Mapping[str, RequestValues]], config: EvalConfig
) -> dict[str, float | int | None]:
    """Estimates, intervals and ratios, all under the same resampled users."""
    estimates = _estimates(
        {
            metric_key(metric, scorer, masked): one
            for (masked, scorer), metrics in values.items()
            for metric, one in metrics.items()
        },
        config,
    )
    ratios: dict[str, float | None] = {}
    for masked, scorer in values:
        for k in config.ks:
            hr_p = estimates[metric_key(f"hr_p@{k}", scorer, masked)]
            hr_n = estimates[metric_key(f"hr_n@{k}", scorer, masked)]
            estimates[metric_key(f"delta@{k}", scorer, masked)] = _Estimate(
                hr_p.mean - hr_n.mean, hr_p.draws_B - hr_n.draws_B, min(hr_p.count, hr_n.count)
            )
        if scorer == MODEL or (masked, MODEL) not in values:
            continue
        for metric in [f"{name}@{k}" for k in config.ks for name in RATIOS]:
            key = metric_key(metric, MODEL, masked)
            model, other = estimates[key], estimates[metric_key(metric, scorer, masked)]
            ratios |= _with_interval(
                f"{key}/vs_{scorer}",
                ratio(model.mean, other.mean),
                ratio(model.draws_B, other.draws_B),
            )
    figures: dict[str, float | int | None] = {}
    for key, one in estimates.items():
        figures |= _with_interval(key, one.mean, one.draws_B) | {f"{key}_n": one.count}
    return figures | ratios


def _estimates(columns: Mapping[str, RequestValues], config: EvalConfig) -> dict[str, _Estimate]:
    draws_BM = resampled_means(
        np.stack([one.value_R for one in columns.values()], axis=1),
        np.stack([one.weight_R for one in columns.values()], axis=1),
        resamples=config.bootstrap,
        seed=config.seed,
    )
    return {
        key: _Estimate(one.mean(), draws_B, one.count)
        for (key, one), draws_B in zip(columns.items(), draws_BM.T, strict=True)
    }


def _with_interval(key: str, estimate: float, draws_B: np.ndarray) -> dict[str, float | None]:
    low, high = percentile_interval(draws_B)
    return {key: _json(estimate), f"{key}_low": _json(low), f"{key}_high": _json(high)}


def _json(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
