"""Comparison of runs: paired differences on the same queries, with Holm-adjusted p-values.

The hypotheses of a table, all metrics of FAMILY for all pairs shown, form one family: if none of
the differences is real, some row has `p_holm` < .05 with a probability of at most .05.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from negflax.config import EvalConfig
from negflax.evaluate.bootstrap import holm, p_value, percentile_interval, resampled_means
from negflax.evaluate.metrics import QueryValues
from negflax.evaluate.protocol import EvaluationError
from negflax.evaluate.report import html
from negflax.evaluate.scoreboard import MODEL, Result

# Metrics compared at each K; auc and negative_rank, whose difference is a change of mean rank, too.
FAMILY = ("hr_p", "hr_n", "delta", "ndcg_p", "anti_ndcg", "coverage", "negative_f1")
RATE = "rate_adjusted"  # the baseline that a model with negative feedback has to beat


def compare(results: Mapping[str, Result], config: EvalConfig) -> list[dict[str, Any]]:
    """Compares each run with the first one, and with the first one's rate-adjusted scores.

    Args:
      results: results on the same split by name of the run; those with seen items masked are used.
      config: list lengths K, bootstrap resamples and seed.

    Returns:
      A row for each comparison and metric: `arms` ("b - a"), `metric`, `difference`, `low`, `high`
      (95 % user-clustered paired bootstrap), `p`, `p_holm`; NaN where undefined.

    Raises:
      EvaluationError: there are fewer than two runs, or they have different queries.
    """
    names = list(results)
    if len(names) < 2:
        raise EvaluationError(
            f"a comparison needs at least two runs, got {', '.join(names) or 'none'}"
        )
    _check_same_queries(results)
    first = results[names[0]]
    arms = {name: result.values[True, MODEL] for name, result in results.items()}
    pairs = [(name, names[0]) for name in names[1:]]
    if (True, RATE) in first.values:
        baseline = f"{names[0]}+rate"
        arms[baseline] = first.values[True, RATE]
        pairs += [(name, baseline) for name in names[1:]]

    metrics = [f"{name}@{k}" for k in config.ks for name in FAMILY] + ["auc", "negative_rank"]
    draws = {name: _draws(values, metrics, first, config) for name, values in arms.items()}
    rows = []
    for b, a in pairs:
        for metric in metrics:
            (mean_b, draws_b), (mean_a, draws_a) = draws[b][metric], draws[a][metric]
            low, high = percentile_interval(draws_b - draws_a)
            rows.append(
                {
                    "arms": f"{b} - {a}",
                    "metric": "negative_rank_change" if metric == "negative_rank" else metric,
                    "difference": mean_b - mean_a,
                    "low": low,
                    "high": high,
                    "p": p_value(draws_b - draws_a),
                }
            )
    for row, adjusted in zip(rows, holm(np.array([row["p"] for row in rows])), strict=True):
        row["p_holm"] = float(adjusted)
    return rows


def figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Returns the rows as figures: `b - a/hr_p@10`, `…_low`, `…_high`, `…_p`, `…_p_holm`."""
    found = {}
    for row in rows:
        key = f"{row['arms']}/{row['metric']}"
        for end in ("difference", "low", "high", "p", "p_holm"):
            value = row[end] if math.isfinite(row[end]) else None
            found[key if end == "difference" else f"{key}_{end}"] = value
    return found


def section(rows: Sequence[Mapping[str, Any]]) -> html.Table:
    """Returns the rows as a section of the page."""
    note = (
        "Differences on the same users, with 95 % user-clustered paired bootstrap intervals; "
        "p_holm is adjusted for all rows of the table (Holm). “+rate” is the run's scores + β · "
        "log of the item's share of positives."
    )
    return html.Table("Paired differences, seen items masked", rows, note)


def _draws(
    values: Mapping[str, QueryValues], metrics: Sequence[str], first: Result, config: EvalConfig
) -> dict[str, tuple[float, np.ndarray]]:
    """Returns for each metric its estimate and its value in each resample, the same for all."""
    chosen = [metric for metric in values if metric in metrics or metric.split("@")[0] == "hr_p"]
    draws_BM = resampled_means(
        np.stack([values[metric].value_R for metric in chosen], axis=1),
        np.stack([values[metric].weight_R for metric in chosen], axis=1),
        resamples=config.bootstrap,
        seed=config.seed,
        user_R=first.queries.user_R,
    )
    found = {
        metric: (values[metric].mean(), draws_B)
        for metric, draws_B in zip(chosen, draws_BM.T, strict=True)
    }
    for k in config.ks:
        (hr_p, draws_p), (hr_n, draws_n) = found[f"hr_p@{k}"], found[f"hr_n@{k}"]
        found[f"delta@{k}"] = hr_p - hr_n, draws_p - draws_n
    return found


def _check_same_queries(results: Mapping[str, Result]) -> None:
    (first, one), *others = results.items()
    for name, other in others:
        for field in ("user_R", "end_R", "judged_offsets_R1", "judged_item_J"):
            if not np.array_equal(getattr(one.queries, field), getattr(other.queries, field)):
                raise EvaluationError(
                    f"{first} and {name} have different queries: compare runs of the same data "
                    "set, split and vocabulary, with equal config.labels and config.eval.state"
                )
