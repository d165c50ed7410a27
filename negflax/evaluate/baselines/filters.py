"""Filters that react to dislikes without learning; they work on any scorer.

They are defined in docs/method.md §5.5. Filtered items keep finite scores, below all other items of
the query and in their original order, so that ranks stay exact. Their softmax has no meaning, so
ignore weighted_loss for filtered scores.

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

DISLIKED = 2  # code of an explicit dislike in `Sequences.dislike_E`


def drop_disliked(scorer: Scorer, sequences: Sequences) -> Scorer:
    """Filters out items that the user has disliked; no effect if seen items are masked."""

    def score(queries: Queries) -> LazyScores:
        row_H, item_H = _dislikes(sequences, queries)

        def blocked(rows: slice) -> np.ndarray:
            return _marks(len(queries), row_H, item_H, rows)

        return _below(scorer(queries), blocked, row_H)

    return score


def block_creator(scorer: Scorer, sequences: Sequences) -> Scorer:
    """Filters out disliked items, and all items of the creators of disliked items."""
    creator_V = sequences.catalogue.creator_V

    def score(queries: Queries) -> LazyScores:
        row_H, item_H = _dislikes(sequences, queries)
        known_H = creator_V[item_H] > 0  # 0 is an unknown creator, not a creator
        creators_N, number_K = np.unique(creator_V[item_H[known_H]], return_inverse=True)
        blocked_RN = np.zeros((len(queries), len(creators_N) + 1), bool)  # last: other creators
        blocked_RN[row_H[known_H], number_K] = True

        def blocked(rows: slice) -> np.ndarray:
            number_C = np.searchsorted(creators_N, creator_V[rows])
            here_C = np.append(creators_N, -1)[number_C] == creator_V[rows]
            by_creator_RC = blocked_RN[:, np.where(here_C, number_C, len(creators_N))]
            return by_creator_RC | _marks(len(queries), row_H, item_H, rows)

        return _below(scorer(queries), blocked, row_H)

    return score


def _dislikes(sequences: Sequences, queries: Queries) -> tuple[np.ndarray, np.ndarray]:
    """Returns (query, catalogue row) of each dislike in the histories."""
    query_H, event_H = history_events(sequences, queries.user_R, queries.end_R)
    disliked_H = sequences.dislike_E[event_H] == DISLIKED
    return query_H[disliked_H], sequences.item_E[event_H[disliked_H]]


def _marks(queries: int, row_H: np.ndarray, item_H: np.ndarray, rows: slice) -> np.ndarray:
    """Returns bool (R, C), true for the given pairs of a query and a catalogue row."""
    marks_RC = np.zeros((queries, rows.stop - rows.start), bool)
    here_H = (item_H >= rows.start) & (item_H < rows.stop)
    marks_RC[row_H[here_H], item_H[here_H] - rows.start] = True
    return marks_RC


def _below(
    scores_RV: np.ndarray | LazyScores, blocked: Callable[[slice], np.ndarray], row_H: np.ndarray
) -> LazyScores:
    """Moves blocked items below all others in the queries row_H."""

    @functools.cache
    def shift_R1() -> np.ndarray:  # reads all scores, so it is computed only if needed
        queries, num_rows = scores_RV.shape
        low_R, high_R = np.full(queries, np.inf), np.full(queries, -np.inf)
        for rows in chunks(num_rows, queries):
            scores_RC = scores_RV[:, rows]
            low_R = np.minimum(low_R, scores_RC.min(axis=1))
            high_R = np.maximum(high_R, scores_RC.max(axis=1))
        return (high_R - low_R + 1)[:, None]

    def columns(rows: slice) -> np.ndarray:
        scores_RC = np.asarray(scores_RV[:, rows], np.float64)  # so that shifting makes no ties
        if not len(row_H):
            return scores_RC
        return np.where(blocked(rows), scores_RC - shift_R1(), scores_RC)

    return LazyScores(scores_RV.shape, columns)
