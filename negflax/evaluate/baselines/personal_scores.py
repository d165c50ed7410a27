"""Baselines that react to a user's dislikes and train nothing, on the scores of a trained model.

`negative_example` is what vector databases offer: the score minus β times the largest cosine of the
item's vector to those of the user's recently disliked items. `counts` are the model's scores with
its calibration by feedback counts (docs/calibration.md), on a model of positives only, and
`counts_rate_adjusted` adds the item's positive rate to them.

The formulas work on NumPy and JAX arrays (`xp`), as simulations use them on the device.

Shapes: R queries, C columns, N recently disliked items, D width, V catalogue rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from negflax.config import EvalConfig
from negflax.data import Sequences
from negflax.data.histories import history_events
from negflax.evaluate.baselines.filters import DISLIKED
from negflax.evaluate.baselines.popularity import cached, rate_adjusted
from negflax.evaluate.baselines.rate_adjusted import best_beta
from negflax.evaluate.metrics import aggregate, query_values
from negflax.evaluate.protocol import (
    EvaluationError,
    LazyScores,
    Queries,
    Scorer,
    build_queries,
)
from negflax.evaluate.ranking import rank_scorers
from negflax.evaluate.scorer import trained_scorer
from negflax.mesh import to_host
from negflax.train.restore import Trained, scored_tables

BETAS = (0.25, 0.5, 1.0, 2.0, 4.0)
PERSONAL = ("rate_adjusted", "negative_example", "counts", "counts_rate_adjusted")
RECENT = 8  # disliked items that count


class Adjustment(NamedTuple):
    """What a serving layer adds to the scores of a trained model; by default its calibration.

    Attributes:
      counts: whether its calibration is used, if it has one.
      rate_beta: weight of the log of an item's positive rate.
      example_beta: weight of the largest cosine to a recently disliked item, which is subtracted.
    """

    counts: bool = True
    rate_beta: float = 0.0
    example_beta: float = 0.0


CALIBRATED, ALONE = Adjustment(), Adjustment(counts=False)


def personal_adjustments(trained: Trained, sequences: Sequences) -> dict[str, Adjustment]:
    """Returns the baselines by name, `model` without calibration first.

    Every β has the best delta at the first K on the validation period.

    Args:
      trained: a checkpoint, with its calibration if it has one.
      sequences: events of all users.
    """
    config, splits = trained.config.eval, trained.config.train.splits
    model = cached(trained_scorer(trained, sequences, calibrated=False))
    found = {
        "model": ALONE,
        "rate_adjusted": ALONE._replace(rate_beta=best_beta(model, sequences, splits, config)),
        "negative_example": ALONE._replace(
            example_beta=best_example_beta(model, unit_rows(trained), sequences, config)
        ),
    }
    if trained.calibration is not None:
        counts = cached(trained_scorer(trained, sequences))
        beta = best_beta(counts, sequences, splits, config)
        found |= {"counts": CALIBRATED, "counts_rate_adjusted": Adjustment(rate_beta=beta)}
    return found


def personal_scorers(
    trained: Trained, sequences: Sequences
) -> tuple[dict[str, Scorer], dict[str, float]]:
    """Returns the scorers of `personal_adjustments` by name, and the chosen β."""
    found = personal_adjustments(trained, sequences)
    bases = {
        counts: cached(trained_scorer(trained, sequences, calibrated=counts))
        for counts in (False, True)
    }
    scorers = {
        name: adjusted(bases[one.counts], trained, sequences, one) for name, one in found.items()
    }
    return scorers, betas(found)


def betas(adjustments: Mapping[str, Adjustment]) -> dict[str, float]:
    """Returns `<name>/beta` of the baselines that have one."""
    return {
        f"{name}/beta": one.rate_beta or one.example_beta
        for name, one in adjustments.items()
        if name not in ("model", "counts")
    }


def adjusted_scorer(trained: Trained, sequences: Sequences, adjustment: Adjustment) -> Scorer:
    """Returns a scorer of the model with what is added to its scores.

    Args:
      trained: a checkpoint, with its calibration if it has one.
      sequences: events of all users.
      adjustment: what is added.
    """
    scorer = trained_scorer(trained, sequences, calibrated=adjustment.counts)
    return adjusted(scorer, trained, sequences, adjustment)


def adjusted(
    scorer: Scorer, trained: Trained, sequences: Sequences, adjustment: Adjustment
) -> Scorer:
    """Returns the scorer with the terms by rate and by example; it has the calibration already."""
    if adjustment.example_beta:
        scorer = negative_example(scorer, unit_rows(trained), sequences, adjustment.example_beta)
    if adjustment.rate_beta:
        splits = trained.config.train.splits
        scorer = rate_adjusted(scorer, sequences, splits, adjustment.rate_beta)
    return scorer


def unit_rows(trained: Trained) -> np.ndarray:
    """(V, D) float32 item vectors by which the model scores, of length 1."""
    model = trained.model
    rows = scored_tables(model, trained.state)[model.output_table]["rows"]
    rows = np.asarray(to_host(rows), np.float32)[: model.num_rows, : model.config.embedding]
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def largest_cosine(unit_VD: Any, disliked_RN: Any, unit_CD: Any, xp: Any) -> Any:
    """(R, C) largest cosine of each column to a disliked item of the user; 0 without any.

    Args:
      unit_VD: vectors of length 1 of all items.
      disliked_RN: rows of items, 0 where there are fewer than N.
      unit_CD: vectors of the columns.
      xp: NumPy or jax.numpy.
    """
    near_RC = xp.full((len(disliked_RN), len(unit_CD)), -xp.inf, xp.float32)
    for n in range(disliked_RN.shape[1]):  # one by one, so that no array is N times as large
        item_R = disliked_RN[:, n]
        cosine_RC = unit_VD[item_R] @ unit_CD.T
        near_RC = xp.where(item_R[:, None] > 0, xp.maximum(near_RC, cosine_RC), near_RC)
    return xp.where(xp.isfinite(near_RC), near_RC, xp.float32(0))


def negative_example(
    scorer: Scorer, unit_VD: np.ndarray, sequences: Sequences, beta: float
) -> Scorer:
    """Returns scores − β · the largest cosine to the last RECENT disliked items; 0 without any."""

    def score(queries: Queries) -> LazyScores:
        base, disliked_RN = scorer(queries), recently_disliked(sequences, queries)

        def columns(asked: slice) -> np.ndarray:
            near_RC = largest_cosine(unit_VD, disliked_RN, unit_VD[asked], np)
            return base[:, asked] - np.float32(beta) * near_RC

        return LazyScores(base.shape, columns)

    return score


def recently_disliked(sequences: Sequences, queries: Queries) -> np.ndarray:
    """(R, RECENT) rows of the items that each user disliked last, 0 where there are fewer."""
    query_H, event_H = history_events(sequences, queries.user_R, queries.end_R)
    said_no = (sequences.dislike_E[event_H] == DISLIKED) & (sequences.item_E[event_H] > 0)
    query_H, item_H = query_H[said_no], sequences.item_E[event_H[said_no]]
    stop_H = np.searchsorted(query_H, query_H, side="right")
    place_H = stop_H - 1 - np.arange(len(query_H))  # 0 is the newest
    found_RN = np.zeros((len(queries), RECENT), np.int32)
    kept = place_H < RECENT
    found_RN[query_H[kept], place_H[kept]] = item_H[kept]
    return found_RN


def best_example_beta(
    scorer: Scorer, unit_VD: np.ndarray, sequences: Sequences, config: EvalConfig
) -> float:
    """Returns the β of `negative_example` with the largest delta on the validation period.

    If the period has no positive or no negative labels, the first of BETAS is returned.
    """
    try:
        queries = build_queries(sequences, "valid", config.valid_users, config.seed, config.state)
    except EvaluationError:
        return BETAS[0]
    first = dataclasses.replace(config, ks=config.ks[:1])
    named = {str(beta): negative_example(scorer, unit_VD, sequences, beta) for beta in BETAS}
    ranks = rank_scorers(named, queries, sequences, (True,), config.users_per_block)
    deltas = {
        float(name): aggregate(query_values(one, queries, first))[f"delta@{config.ks[0]}"]
        for (_, name), one in ranks.items()
    }
    return max(deltas, key=lambda beta: np.nan_to_num(deltas[beta], nan=-np.inf))
