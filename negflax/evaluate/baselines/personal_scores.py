"""Baselines that react to a user's dislikes and train nothing, on the scores of a trained model.

`negative_example` is what vector databases offer: the score minus β times the largest cosine of the
item's vector to those of the user's recently disliked items. `counts` are the model's scores with
its calibration by feedback counts (docs/calibration.md), on a model of positives only, and
`counts_rate_adjusted` adds the item's positive rate to them.

Shapes: R queries, C columns, N recently disliked items, D width, V catalogue rows.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from negflax.config import EvalConfig
from negflax.data import Sequences
from negflax.data.histories import history_events
from negflax.evaluate.baselines.filters import DISLIKED
from negflax.evaluate.baselines.popularity import cached, rate_adjusted
from negflax.evaluate.baselines.rate_adjusted import best_beta
from negflax.evaluate.metrics import aggregate, query_values
from negflax.evaluate.protocol import LazyScores, Queries, Scorer, build_queries
from negflax.evaluate.ranking import rank_scorers
from negflax.evaluate.scorer import model_scorer
from negflax.mesh import to_host
from negflax.train.restore import Trained, scored_tables

BETAS = (0.25, 0.5, 1.0, 2.0, 4.0)
RECENT = 8  # disliked items that count


def personal_scorers(
    trained: Trained, sequences: Sequences, config: EvalConfig
) -> tuple[dict[str, Scorer], dict[str, float]]:
    """Returns the scorers by name, `model` without calibration first, and the chosen β.

    Every β has the best delta at the first K on the validation period.

    Args:
      trained: a checkpoint, with its calibration if it has one.
      sequences: events of all users.
      config: settings of the evaluation.
    """
    splits = trained.config.train.splits

    def scorer(calibration: object) -> Scorer:
        one = trained.model, trained.state, sequences, trained.mesh, config.history, calibration
        return cached(model_scorer(*one))

    model = scorer(None)
    near = {beta: negative_example(model, trained, sequences, beta) for beta in BETAS}
    beta = _best(near, sequences, config)
    rate_beta = best_beta(model, sequences, splits, config)
    found = {
        "model": model,
        "rate_adjusted": rate_adjusted(model, sequences, splits, rate_beta),
        "negative_example": near[beta],
    }
    facts = {"negative_example/beta": beta, "rate_adjusted/beta": rate_beta}
    if trained.calibration is not None:
        counts = found["counts"] = scorer(trained.calibration)
        both_beta = best_beta(counts, sequences, splits, config)
        found["counts_rate_adjusted"] = rate_adjusted(counts, sequences, splits, both_beta)
        facts["counts_rate_adjusted/beta"] = both_beta
    return found, facts


def negative_example(scorer: Scorer, trained: Trained, sequences: Sequences, beta: float) -> Scorer:
    """Returns scores − β · the largest cosine to the last RECENT disliked items; 0 without any."""
    model = trained.model
    rows = scored_tables(model, trained.state)[model.output_table]["rows"]
    rows = np.asarray(to_host(rows), np.float32)[: model.num_rows, : model.config.embedding]
    unit_VD = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)

    def score(queries: Queries) -> LazyScores:
        base, disliked_RN = scorer(queries), recently_disliked(sequences, queries)

        def columns(asked: slice) -> np.ndarray:
            near_RC = np.full((len(queries), asked.stop - asked.start), -np.inf, np.float32)
            for item_R in disliked_RN.T:
                cosine_RC = unit_VD[item_R] @ unit_VD[asked].T
                near_RC = np.where(item_R[:, None] > 0, np.maximum(near_RC, cosine_RC), near_RC)
            return base[:, asked] - beta * np.where(np.isfinite(near_RC), near_RC, 0)

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


def _best(scorers: dict[float, Scorer], sequences: Sequences, config: EvalConfig) -> float:
    queries = build_queries(sequences, "valid", config.valid_users, config.seed, config.state)
    first = dataclasses.replace(config, ks=config.ks[:1])
    named = {str(beta): one for beta, one in scorers.items()}
    ranks = rank_scorers(named, queries, sequences, (True,), config.users_per_block)
    deltas = {
        float(name): aggregate(query_values(one, queries, first))[f"delta@{config.ks[0]}"]
        for (_, name), one in ranks.items()
    }
    return max(deltas, key=lambda beta: np.nan_to_num(deltas[beta], nan=-np.inf))
