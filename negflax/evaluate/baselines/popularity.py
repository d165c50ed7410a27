"""Baselines that count the events of an item (docs/method.md §5.5).

They are scored by the same code as a model. The scores of popularity are logarithms of smoothed
shares, so their softmax is a distribution and weighted_loss is meaningful for it.
"""

from __future__ import annotations

import functools

import numpy as np

from negflax.data import SPLITS, Sequences
from negflax.evaluate.protocol import LazyScores, Queries, Scorer
from negflax.hashing import mix

PRIOR_EVENTS = 10.0  # number of labelled events by which an item's positive rate is smoothed


def random_scorer(sequences: Sequences, seed: int) -> Scorer:
    """Returns a scorer by a hash of (seed, user, item), independent of the blocks of queries."""
    item_V = np.random.default_rng(seed).integers(
        0, 2**32, sequences.catalogue.num_rows, dtype=np.uint32
    )

    def score(queries: Queries) -> LazyScores:
        user_R = mix(queries.user_R.astype(np.uint32) + np.uint32(1))

        def columns(rows: slice) -> np.ndarray:
            bits_RC = mix(item_V[None, rows] ^ user_R[:, None])
            return bits_RC.astype(np.float32) * np.float32(2.0**-32)

        return LazyScores((len(queries), len(item_V)), columns)

    return score


def popularity_scorer(sequences: Sequences, splits: tuple[str, ...]) -> Scorer:
    """Returns a scorer by log(1 + number of positive events in `splits`), equal for all users."""
    score_V = np.log1p(positive_count(sequences, splits).astype(np.float64))

    def score(queries: Queries) -> np.ndarray:
        return np.broadcast_to(score_V, (len(queries), len(score_V)))

    return score


def signed_popularity_scorer(sequences: Sequences, splits: tuple[str, ...], c: float) -> Scorer:
    """Returns a scorer by `±log(1 + |d|)` of d = positive events − c × negative events."""
    difference_V = positive_count(sequences, splits) - c * _negative_count(sequences, splits)
    score_V = np.sign(difference_V) * np.log1p(np.abs(difference_V))

    def score(queries: Queries) -> np.ndarray:
        return np.broadcast_to(score_V, (len(queries), len(score_V)))

    return score


def rate_adjusted(
    scorer: Scorer, sequences: Sequences, splits: tuple[str, ...], beta: float
) -> Scorer:
    """Returns the scorer + β · log(the item's positive rate, see `positive_rates`).

    The added term depends on item quality but not on the user. On a positives-only model, this is
    the baseline that a model with negative feedback has to beat.
    """
    shift_V = rate_term(sequences, splits, beta)

    def score(queries: Queries) -> LazyScores:
        scores_RV = scorer(queries)
        return LazyScores(scores_RV.shape, lambda rows: scores_RV[:, rows] + shift_V[rows])

    return score


def rate_term(sequences: Sequences, splits: tuple[str, ...], beta: float) -> np.ndarray:
    """Returns β · log(the item's positive rate), float32 (V,)."""
    return (beta * np.log(positive_rates(sequences, splits))).astype(np.float32)


def positive_rates(sequences: Sequences, splits: tuple[str, ...]) -> np.ndarray:
    """Returns the share of positives among each item's labelled events in `splits`, float64 (V,).

    It is smoothed by PRIOR_EVENTS events with the overall rate.
    """
    positive_V, negative_V = (
        count(sequences, splits).astype(np.float64) for count in (positive_count, _negative_count)
    )
    labelled_V = positive_V + negative_V
    overall = (positive_V.sum() + 1) / (labelled_V.sum() + 1)
    return (positive_V + PRIOR_EVENTS * overall) / (labelled_V + PRIOR_EVENTS)


def cached(scorer: Scorer) -> Scorer:
    """Returns the scorer with a cache of its last result, for scorers that build on it."""
    last: list[tuple[np.ndarray, np.ndarray, LazyScores]] = []

    def remembering(scores_RV: np.ndarray | LazyScores) -> LazyScores:
        columns = functools.lru_cache(maxsize=1)(lambda start, stop: scores_RV[:, start:stop])
        return LazyScores(scores_RV.shape, lambda rows: columns(rows.start, rows.stop))

    def score(queries: Queries) -> LazyScores:
        asked = queries.user_R, queries.end_R
        if not last or not all(map(np.array_equal, asked, last[0])):
            last[:] = [(*asked, remembering(scorer(queries)))]
        return last[0][2]

    return score


def chosen(sequences: Sequences, splits: tuple[str, ...]) -> np.ndarray:
    """Returns whether each event is in one of the splits, (E,)."""
    return np.isin(sequences.split_E, [SPLITS.index(split) for split in splits])


def positive_count(sequences: Sequences, splits: tuple[str, ...]) -> np.ndarray:
    """Returns the number of positive events of each item in the splits, (V,)."""
    return _count(sequences, splits, sequences.positive_weight_E)


def _negative_count(sequences: Sequences, splits: tuple[str, ...]) -> np.ndarray:
    return _count(sequences, splits, sequences.negative_weight_E)


def _count(sequences: Sequences, splits: tuple[str, ...], weight_E: np.ndarray) -> np.ndarray:
    counted_E = chosen(sequences, splits) & (weight_E > 0)
    return np.bincount(sequences.item_E[counted_E], minlength=sequences.catalogue.num_rows)
