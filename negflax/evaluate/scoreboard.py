"""Compares scorers: every metric, interval and ratio of a split in one flat dictionary.

The metrics of the model with seen items masked have plain keys (docs/method.md §6); others have
prefixes.

    ndcg_p@10                             the model, seen items masked (the headline)
    popularity/ndcg_p@10                  a baseline, the same mode
    kept/ndcg_p@10, kept/markov/auc       seen items kept
    dcg@10/lambda=2                       a metric that depends on λ
    ndcg_p@10/vs_popularity               ratio of the model to the baseline, same users
    negative_rank_change/vs_popularity    mean change of the negatives' rank, model - baseline
    item_popularity=low/hr_n@10           the model on a subset of the judged items (slices.py)
    replay/positive_rate@10               on randomly shown items, if the log has any (replay.py)
    ..._low, ..._high                     95 % user-clustered paired bootstrap interval
    ..._n                                 number of queries for which the metric is defined
    users, queries, positives, negatives  numbers of these; kept/... likewise
    seen_positives, seen_negatives        judged items that are masked, as the user has seen them
    negative=related/negatives            number of judged items of a subset
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
from negflax.evaluate.diversity import catalogue_coverage, diversity
from negflax.evaluate.metrics import QueryValues, aggregate, query_values
from negflax.evaluate.protocol import Queries, Scorer, build_queries
from negflax.evaluate.ranking import Ranks, rank_queries, rank_scorers
from negflax.evaluate.replay import replay_queries, replay_values
from negflax.evaluate.slices import slices

MODEL = "model"  # the scorer whose keys have no prefix
SLICED = ("hr_p", "hr_n", "ndcg_p", "anti_ndcg", "recall", "coverage")  # at the first K
RATIOS = ("hr_p", "hr_n", "ndcg_p", "anti_ndcg")  # compared with every other scorer, at each K


@dataclasses.dataclass(frozen=True)
class Result:
    """The results of an evaluation.

    Attributes:
      metrics: figures by name, ready for JSON: float, int, or None if undefined; `evaluation.py`
        adds the verdict, which is text.
      queries: queries that were evaluated.
      values: (masked, scorer) → metric → values per query, for further comparisons.
    """

    metrics: dict[str, float | int | None]
    queries: Queries
    values: dict[tuple[bool, str], dict[str, QueryValues]]


def evaluate_scorer(
    scorer: Scorer,
    queries: Queries,
    sequences: Sequences,
    config: EvalConfig,
    masked: bool = True,
    name: str = MODEL,
) -> dict[str, float | None]:
    """Returns the metrics of one scorer without intervals, for validation during training.

    Raises:
      EvaluationError: see `rank_queries`.
    """
    ranks = rank_queries(scorer, queries, sequences, masked, config.users_per_block, name)
    values = query_values(ranks, queries, config)
    return {key: _json(value) for key, value in aggregate(values).items()}


def evaluate_scorers(
    scorers: Mapping[str, Scorer], sequences: Sequences, config: EvalConfig, split: str
) -> Result:
    """Computes all metrics of all scorers on a split, with seen items masked and kept.

    The keys are listed at the top of this module.

    Args:
      scorers: scorers by name; `model` has keys without a prefix and is compared with the others.
        For baselines see `negflax.evaluate.default_baselines`.
      sequences: events of all users.
      config: list lengths, block size, loss weight, bootstrap resamples and seed.
      split: `valid` or `test`.

    Raises:
      EvaluationError: the split has no labelled event, or a score is not finite.
    """
    queries = build_queries(sequences, split, state=config.state)
    ranks = rank_scorers(
        scorers, queries, sequences, (True, False), config.users_per_block, max(config.ks)
    )
    values, counts = {}, {}
    for (masked, name), one in ranks.items():
        values[masked, name] = query_values(one, queries, config)
        values[masked, name] |= _list_values(one, sequences, config)
        counts |= _counts(one, queries, masked) | _coverages(one, sequences, config, masked, name)
    parts, part_counts = _part_values(ranks, queries, sequences, config)
    figures = _figures(values, parts, queries.user_R, config)
    replayed = _replay_figures(scorers, sequences, config, split)
    return Result({**counts, **part_counts, **figures, **replayed}, queries, values)


def metric_key(metric: str, scorer: str = MODEL, masked: bool = True) -> str:
    """Returns the key of a scorer's metric in `Result.metrics`."""
    return ("" if masked else "kept/") + ("" if scorer == MODEL else f"{scorer}/") + metric


def _counts(ranks: Ranks, queries: Queries, masked: bool) -> dict[str, int]:
    mode = "" if masked else "kept/"
    positive_J, eligible_J = queries.judged_positive_J, ranks.eligible_J
    counts = {
        f"{mode}users": len(np.unique(queries.user_R)),
        f"{mode}queries": len(queries),
        f"{mode}positives": int((positive_J & eligible_J).sum()),
        f"{mode}negatives": int((~positive_J & eligible_J).sum()),
    }
    if masked:
        counts["seen_positives"] = int((positive_J & ~eligible_J).sum())
        counts["seen_negatives"] = int((~positive_J & ~eligible_J).sum())
    return counts


def _list_values(ranks: Ranks, sequences: Sequences, config: EvalConfig) -> dict[str, QueryValues]:
    """Returns the diversity of the lists, by metric@K."""
    return {
        f"{name}@{k}": QueryValues(value_R, (~np.isnan(value_R)).astype(np.float64))
        for k in config.ks
        for name, value_R in diversity(ranks.list_RK[:, :k], sequences.catalogue).items()
    }


def _coverages(
    ranks: Ranks, sequences: Sequences, config: EvalConfig, masked: bool, scorer: str
) -> dict[str, float | int]:
    """Returns catalogue_coverage@K, without intervals, as it is not a mean over queries."""
    found = {}
    for k in config.ks:
        key = metric_key(f"catalogue_coverage@{k}", scorer, masked)
        found[key] = catalogue_coverage(ranks.list_RK[:, :k], sequences.catalogue.num_rows)
        found[f"{key}_n"] = len(ranks.list_RK)
    return found


def _part_values(
    ranks: Mapping[tuple[bool, str], Ranks],
    queries: Queries,
    sequences: Sequences,
    config: EvalConfig,
) -> tuple[dict[str, QueryValues], dict[str, int]]:
    """Returns the model's values on subsets of the judged items, and the sizes of these."""
    first = dataclasses.replace(config, ks=config.ks[:1], lambdas=(0.0,))
    values: dict[str, QueryValues] = {}
    counts: dict[str, int] = {}
    for part, counted_J in slices(sequences, queries).items():
        for masked in (True, False):
            if (masked, MODEL) not in ranks:
                continue
            one, prefix = ranks[masked, MODEL], metric_key(f"{part}/", MODEL, masked)
            found = query_values(one, queries, first, counted_J)
            names = [f"{name}@{config.ks[0]}" for name in SLICED] + ["auc"]
            values |= {prefix + name: found[name] for name in names}
            judged_J, positive_J = counted_J & one.eligible_J, queries.judged_positive_J
            counts[f"{prefix}positives"] = int((judged_J & positive_J).sum())
            counts[f"{prefix}negatives"] = int((judged_J & ~positive_J).sum())
    return values, counts


class _Estimate(NamedTuple):
    """A metric of one scorer and mode, with its value in each resample of the users."""

    mean: float
    draws_B: np.ndarray
    count: int


def _replay_figures(
    scorers: Mapping[str, Scorer], sequences: Sequences, config: EvalConfig, split: str
) -> dict[str, float | int | None]:
    """Returns feedback on randomly shown items, with seen items masked; empty if there are none."""
    queries = replay_queries(sequences, split)
    if queries is None:
        return {}
    ranks = rank_scorers(scorers, queries, sequences, (True,), config.users_per_block)
    columns = {
        metric_key(metric, name): one
        for (_, name), found in ranks.items()
        for metric, one in replay_values(found, queries, sequences, config.ks).items()
    }
    figures: dict[str, float | int | None] = {"replay/queries": len(queries)}
    for key, one in _estimates(columns, queries.user_R, config).items():
        figures |= _with_interval(key, one.mean, one.draws_B) | {f"{key}_n": one.count}
    return figures


def _figures(
    values: Mapping[tuple[bool, str], Mapping[str, QueryValues]],
    parts: Mapping[str, QueryValues],
    user_R: np.ndarray,
    config: EvalConfig,
) -> dict[str, float | int | None]:
    """Returns estimates, intervals and comparisons, all from the same resampled users."""
    columns = {
        metric_key(metric, scorer, masked): one
        for (masked, scorer), metrics in values.items()
        for metric, one in metrics.items()
    }
    estimates = _estimates({**columns, **parts}, user_R, config)
    for key in [key for key in estimates if "hr_p@" in key]:
        hr_p, hr_n = estimates[key], estimates[key.replace("hr_p@", "hr_n@")]
        estimates[key.replace("hr_p@", "delta@")] = _Estimate(
            hr_p.mean - hr_n.mean, hr_p.draws_B - hr_n.draws_B, min(hr_p.count, hr_n.count)
        )
    comparisons: dict[str, float | None] = {}
    for masked, scorer in values:
        if scorer == MODEL or (masked, MODEL) not in values:
            continue
        for metric in [f"{name}@{k}" for k in config.ks for name in RATIOS]:
            key = metric_key(metric, MODEL, masked)
            model, other = estimates[key], estimates[metric_key(metric, scorer, masked)]
            comparisons |= _with_interval(
                f"{key}/vs_{scorer}",
                ratio(model.mean, other.mean),
                ratio(model.draws_B, other.draws_B),
            )
        model, other = (
            estimates[metric_key("negative_rank", name, masked)] for name in (MODEL, scorer)
        )
        comparisons |= _with_interval(
            metric_key(f"negative_rank_change/vs_{scorer}", MODEL, masked),
            model.mean - other.mean,
            model.draws_B - other.draws_B,
        )
    figures: dict[str, float | int | None] = {}
    for key, one in estimates.items():
        figures |= _with_interval(key, one.mean, one.draws_B) | {f"{key}_n": one.count}
    return figures | comparisons


def _estimates(
    columns: Mapping[str, QueryValues], user_R: np.ndarray, config: EvalConfig
) -> dict[str, _Estimate]:
    draws_BM = resampled_means(
        np.stack([one.value_R for one in columns.values()], axis=1),
        np.stack([one.weight_R for one in columns.values()], axis=1),
        resamples=config.bootstrap,
        seed=config.seed,
        user_R=user_R,
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
