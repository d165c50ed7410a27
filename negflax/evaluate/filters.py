"""Heuristics that react to dislikes without learning: filters behind any scorer (SPEC section 5.5).

A filtered item keeps a finite score, below all others of its request, so that ranks stay exact;
the filtered items keep their order among each other. The softmax of such scores means little, so
weighted_loss is not to be read for them.

Shapes: R requests, V catalogue rows, H events of the histories.
"""

from __future__ import annotations

import numpy as np

from negflax.data import Sequences
from negflax.evaluate.protocol import Requests, Scorer, history_events

DISLIKED = 2  # in `Sequences.dislike_E`: an explicit dislike


def drop_disliked(scorer: Scorer, sequences: Sequences) -> Scorer:
    """Never again an item that the user has disliked; with seen items masked it changes nothing."""

    def score(requests: Requests) -> np.ndarray:
        scores_RV = scorer(requests)
        blocked_RV = np.zeros(scores_RV.shape, bool)
        blocked_RV[_dislikes(sequences, requests)] = True
        return _below(scores_RV, blocked_RV)

    return score


def block_creator(scorer: Scorer, sequences: Sequences) -> Scorer:
    """No item of a creator of whom the user has disliked an item, nor that item."""
    creator_V = sequences.catalogue.creator_V

    def score(requests: Requests) -> np.ndarray:
        scores_RV = scorer(requests)
        row_H, item_H = _dislikes(sequences, requests)
        blocked_RC = np.zeros((len(requests), sequences.catalogue.num_creators), bool)
        blocked_RC[row_H, creator_V[item_H]] = True
        blocked_RC[:, 0] = False  # unknown creators are not one creator
        blocked_RV = blocked_RC[:, creator_V]
        blocked_RV[row_H, item_H] = True
        return _below(scores_RV, blocked_RV)

    return score


def _dislikes(sequences: Sequences, requests: Requests) -> tuple[np.ndarray, np.ndarray]:
    """(request, catalogue row) of each dislike in the histories."""
    request_H, event_H = history_events(sequences, requests)
    disliked_H = sequences.dislike_E[event_H] == DISLIKED
    return request_H[disliked_H], sequences.item_E[event_H[disliked_H]]


def _below(scores_RV: np.ndarray, blocked_RV: np.ndarray) -> np.ndarray:
    """Moves blocked items below all others."""
    scores_RV = np.asarray(scores_RV, np.float64)  # room for the shift without new ties
    items_RV = scores_RV[:, 1:]
    span_R1 = items_RV.max(axis=1, keepdims=True) - items_RV.min(axis=1, keepdims=True)
    return np.where(blocked_RV, scores_RV - span_R1 - 1, scores_RV)
