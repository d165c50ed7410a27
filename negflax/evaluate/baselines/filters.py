"""Heuristics that react to dislikes without learning: filters behind any scorer.

Their definitions: docs/method.md §5.5.

A filtered item keeps a finite score, below all others of its query, so that ranks stay exact;
the filtered items keep their order among each other. The softmax of such scores means little, so
weighted_loss is not to be read for them.

Shapes: R queries, V catalogue rows, C rows that are asked for, H disliked events of histories,
N creators among those.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from negflax.data import Sequences
from negflax.data.histories import history_events
from negflax.evaluate.protocol import LazyScores, Queries, Scorer, chunks

DISLIKED = 2  # in `Sequences.dislike_E`: an explicit dislike


def drop_disliked(scorer: Scorer, sequences: Sequences) -> Scorer:
    """Never again an item that the user has disliked; with seen items masked it changes nothing."""

    def score(queries: Queries) -> LazyScores:
        row_H, item_H = _dislikes(sequences, queries)

        def blocked(rows: slice) -> np.ndarray:
            return _marks(len(queries), row_H, item_H, rows)

        return _below(scorer(queries), blocked, row_H)

    return score


def block_creator(scorer: Scorer, sequences: Sequences) -> Scorer:
    """No item of a creator of whom the user has disliked an item, nor that item."""
    creator_V = sequences.catalogue.creator_V

    def score(queries: Queries) -> LazyScores:
        row_H, item_H = _dislikes(sequences, queries)
        known_H = creator_V[item_H] > 0  # unknown creators are not one creator
        creators_N, number_K = np.unique(creator_V[item_H[known_H]], return_inverse=True)
        blocked_RN = np.zeros((len(queries), len(creators_N) + 1), bool)  # the last: no such one
        blocked_RN[row_H[known_H], number_K] = True

        def blocked(rows: slice) -> np.ndarray:
            number_C = np.searchsorted(creators_N, creator_V[rows])
            here_C = np.append(creators_N, -1)[number_C] == creator_V[rows]
            by_creator_RC = blocked_RN[:, np.where(here_C, number_C, len(creators_N))]
            return by_creator_RC | _marks(len(queries), row_H, item_H, rows)

        return _below(scorer(queries), blocked, row_H)

    return score


def _dislikes(sequences: Sequences, queries: Queries) -> tuple[np.ndarray, np.ndarray]:
    """(query, catalogue row) of each dislike in the histories."""
    query_H, event_H = history_events(sequences, queries.user_R, queries.end_R)
    disliked_H = sequences.dislike_E[event_H] == DISLIKED
    return query_H[disliked_H], sequences.item_E[event_H[disliked_H]]


def _marks(queries: int, row_H: np.ndarray, item_H: np.ndarray, rows: slice) -> np.ndarray:
    """bool (R, C): the given pairs among catalogue rows."""
    marks_RC = np.zeros((queries, rows.stop - rows.start), bool)
    here_H = (item_H >= rows.start) & (item_H < rows.stop)
    marks_RC[row_H[here_H], item_H[here_H] - rows.start] = True
    return marks_RC


def _below(
    scores_RV: np.ndarray | LazyScores, blocked: Callable[[slice], np.ndarray], row_H: np.ndarray
) -> LazyScores:
    """Moves blocked items below all others, in the queries row_H."""

    @functools.cache
    def shift_R1() -> np.ndarray:  # one look at all scores, if it is needed at all
        queries, num_rows = scores_RV.shape
        low_R, high_R = np.full(queries, np.inf), np.full(queries, -np.inf)
        for rows in chunks(num_rows, queries):
            scores_RC = scores_RV[:, rows]
            low_R = np.minimum(low_R, scores_RC.min(axis=1))
            high_R = np.maximum(high_R, scores_RC.max(axis=1))
        return (high_R - low_R + 1)[:, None]

    def columns(rows: slice) -> np.ndarray:
        scores_RC = np.asarray(scores_RV[:, rows], np.float64)  # room to shift without new ties
        if not len(row_H):
            return scores_RC
        return np.where(blocked(rows), scores_RC - shift_R1(), scores_RC)

    return LazyScores(scores_RV.shape, columns)
