"""Markov chains over items: what followed the last items of a history in the log.

Scores are logarithms of smoothed shares or counts.

Shapes: U users, R queries, V catalogue rows, F transitions found, C columns asked for.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from negflax.config import EvalConfig
from negflax.data import Sequences
from negflax.evaluate.baselines.popularity import (
    chosen,
    popularity_scorer,
    positive_count,
    random_scorer,
    signed_popularity_scorer,
)
from negflax.evaluate.protocol import LazyScores, Queries, Scorer

WINDOW = (1.0, 0.5, 0.25)  # weights of the events that follow an item
RECENT, DECAY = 5, 0.8  # last items of a query, each weighing .8 of the one after it
POPULARITY = 0.003  # share of popularity in the mixture, for items that never followed


def default_baselines(
    sequences: Sequences,
    splits: tuple[str, ...],
    seed: int,
    negative_popularity: float = EvalConfig.negative_popularity,
) -> dict[str, Scorer]:
    """Returns the baselines of every evaluation, by name; they count the events of `splits`."""
    return {
        "markov": markov_scorer(sequences, splits),
        "markov_5": recent_markov_scorer(sequences, splits),
        "popularity": popularity_scorer(sequences, splits),
        "signed_popularity": signed_popularity_scorer(sequences, splits, negative_popularity),
        "random": random_scorer(sequences, seed),
    }


def transitions(sequences: Sequences, splits: tuple[str, ...], steps: int = 1) -> sparse.csr_array:
    """Returns how often a positive event on an item came `steps` events after another item.

    Both events are in `splits` and of one user; (V, V), from the row to the column.
    """
    rows = sequences.catalogue.num_rows
    chosen_E = chosen(sequences, splits)
    next_E = np.flatnonzero(chosen_E & (sequences.positive_weight_E > 0))
    user_N = np.searchsorted(sequences.offsets_U1, next_E, side="right") - 1
    next_E = next_E[next_E - steps >= sequences.offsets_U1[user_N]]
    next_E = next_E[chosen_E[next_E - steps] & (sequences.item_E[next_E - steps] > 0)]
    pairs = (sequences.item_E[next_E - steps], sequences.item_E[next_E])
    found = sparse.csr_array((np.ones(len(next_E)), pairs), shape=(rows, rows))
    found.sum_duplicates()
    return found


def markov_scorer(sequences: Sequences, splits: tuple[str, ...]) -> Scorer:
    """Returns a first-order Markov scorer.

    The score is the logarithm of a sum: how often an event on the history's last item was followed
    by a positive event on the scored item within `splits`, plus the item's smoothed share of
    popularity, which is below 1. For an empty history only popularity counts.
    """
    followed_VV = transitions(sequences, splits)
    count_V = positive_count(sequences, splits) + 1.0
    backoff_V = count_V / (count_V.sum() + 1)

    def score(queries: Queries) -> LazyScores:
        empty_R = queries.end_R == sequences.offsets_U1[queries.user_R]
        last_R = np.where(empty_R, 0, sequences.item_E[np.maximum(queries.end_R - 1, 0)])
        return _log_of_sum(followed_VV[last_R], backoff_V)

    return score


def recent_markov_scorer(sequences: Sequences, splits: tuple[str, ...]) -> Scorer:
    """Returns a Markov scorer that reads the last five items and looks three events ahead.

    p(y) is a mixture over the history's last five items x, each with .8 of the weight of the one
    after it: the share of y among the positive events that followed x at once, second or third,
    which weigh 1, 1/2 and 1/4. A little of the items' popularity is mixed in. On sequences without
    explicit feedback this is hard to beat for something that is counted in a second.
    """
    followed_VV = sum(
        weight * transitions(sequences, splits, steps) for steps, weight in enumerate(WINDOW, 1)
    ).tocsr()
    total_V = np.asarray(followed_VV.sum(axis=1)).reshape(-1)
    share_VV = sparse.diags_array(1 / np.where(total_V > 0, total_V, 1)) @ followed_VV
    count_V = positive_count(sequences, splits) + 1.0
    backoff_V = POPULARITY * count_V / count_V.sum()

    def score(queries: Queries) -> LazyScores:
        age_N = np.arange(RECENT)
        event_RN = queries.end_R[:, None] - 1 - age_N
        known_RN = event_RN >= sequences.offsets_U1[queries.user_R][:, None]
        item_RN = np.where(known_RN, sequences.item_E[np.maximum(event_RN, 0)], 0)
        weight_RN = np.where(item_RN > 0, DECAY**age_N, 0)
        weight_RN /= np.maximum(weight_RN.sum(axis=1, keepdims=True), 1e-9)
        query_RN = np.broadcast_to(np.arange(len(queries))[:, None], item_RN.shape)
        shape = len(queries), len(backoff_V)
        recent_RV = sparse.csr_array(
            (weight_RN.ravel(), (query_RN.ravel(), item_RN.ravel())), shape=shape
        )
        return _log_of_sum((1 - POPULARITY) * (recent_RV @ share_VV), backoff_V)

    return score


def _log_of_sum(found_RV: sparse.sparray, backoff_V: np.ndarray) -> LazyScores:
    """Returns log(found + backoff), without a dense array of all queries and items."""
    found = found_RV.tocoo()
    query_F, item_F = found.coords
    score_F = np.log(found.data + backoff_V[item_F])
    score_V = np.log(backoff_V)

    def columns(asked: slice) -> np.ndarray:
        scores_RC = np.tile(score_V[asked], (found.shape[0], 1))
        here_F = (item_F >= asked.start) & (item_F < asked.stop)
        scores_RC[query_F[here_F], item_F[here_F] - asked.start] = score_F[here_F]
        return scores_RC

    return LazyScores(found.shape, columns)
