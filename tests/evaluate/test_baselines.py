"""Baselines: popularity, Markov and random scorers."""

import dataclasses

import numpy as np
import pytest

from negflax.evaluate import build_queries, markov_scorer, popularity_scorer, random_scorer
from negflax.evaluate.baselines.filters import block_creator, drop_disliked
from negflax.evaluate.baselines.markov import (
    DECAY,
    POPULARITY,
    RECENT,
    WINDOW,
    recent_markov_scorer,
)
from negflax.evaluate.baselines.popularity import (
    PRIOR_EVENTS,
    cached,
    rate_adjusted,
    signed_popularity_scorer,
)

USERS = [
    [
        (1, "+", "train"),
        (2, "+", "train"),
        (1, "", "train"),
        (2, "+", "train"),
        (1, "-", "valid"),
        (3, "+", "test"),
    ],
    [(1, "-", "train"), (3, "+", "train"), (4, "-", "train"), (4, "+", "test")],
    [(2, "+", "test")],
    [(4, "", "train")],
    [(3, "+", "train")],  # another user: no transition from the 4 above
]


def test_popularity_counts_positives_of_its_splits(make_sequences):
    sequences = make_sequences(USERS, 4)
    queries = build_queries(sequences, "test")
    scores = popularity_scorer(sequences, ("train",))(queries)
    assert scores.shape == (3, 5)
    np.testing.assert_allclose(np.exp(scores[0, 1:]) - 1, [1, 2, 2, 0])
    later = popularity_scorer(sequences, ("train", "valid", "test"))(queries)
    np.testing.assert_allclose(np.exp(later[2, 1:]) - 1, [1, 3, 3, 1])


def test_markov_counts_transitions_to_positives(make_sequences):
    sequences = make_sequences(USERS, 4)
    queries = build_queries(sequences, "test")
    scores = np.exp(markov_scorer(sequences, ("train",))(queries))
    backoff = np.array([2, 3, 3, 1]) / 11
    assert (backoff < 1).all()
    np.testing.assert_allclose(scores[0, 1:], backoff + [0, 2, 1, 0])  # after item 1: 2 twice, 3
    np.testing.assert_allclose(scores[1, 1:], backoff)  # nothing followed item 4
    np.testing.assert_allclose(scores[2, 1:], backoff)  # no history


def test_recent_markov_mixes_what_followed_the_last_five(log):
    queries = build_queries(log, "test")
    rows = log.catalogue.num_rows
    followed, count = np.zeros((rows, rows)), np.ones(rows)
    for start, stop in zip(log.offsets_U1[:-1], log.offsets_U1[1:], strict=True):
        for e in range(start, stop):
            if log.split_E[e] == 0 and log.positive_weight_E[e] > 0:
                count[log.item_E[e]] += 1
                for steps, weight in enumerate(WINDOW, 1):
                    if e - steps >= start and log.split_E[e - steps] == 0:
                        followed[log.item_E[e - steps], log.item_E[e]] += weight
    followed[0] = 0  # an unknown item tells nothing
    share = followed / np.maximum(followed.sum(axis=1, keepdims=True), 1e-9)
    expected = np.empty((len(queries), rows))
    for r, (user, end) in enumerate(zip(queries.user_R, queries.end_R, strict=True)):
        last = log.item_E[max(log.offsets_U1[user], end - RECENT) : end][::-1]
        weight = DECAY ** np.arange(len(last)) * (last > 0)
        mixed = weight @ share[last] / max(weight.sum(), 1e-9)
        expected[r] = (1 - POPULARITY) * mixed + POPULARITY * count / count.sum()
    found = np.exp(np.asarray(recent_markov_scorer(log, ("train",))(queries)))
    np.testing.assert_allclose(found[:, 1:], expected[:, 1:], rtol=1e-5)


def test_random_depends_on_user_item_and_seed_only(log):
    queries = build_queries(log, "test")
    scorer = random_scorer(log, 3)
    whole = np.asarray(scorer(queries))
    parts = np.concatenate([scorer(queries.block(0, 11)), scorer(queries.block(11, 10**6))])
    np.testing.assert_array_equal(whole, parts)
    assert whole.min() >= 0 and whole.max() <= 1
    assert whole.mean() == pytest.approx(0.5, abs=0.01)
    assert len(np.unique(whole[:, 1:].argmax(axis=1))) == 40
    assert abs(np.corrcoef(whole[:50, 1:])[np.triu_indices(50, 1)]).mean() < 0.2
    assert not np.array_equal(whole, random_scorer(log, 4)(queries))


def test_positives_minus_negatives(make_sequences):
    sequences = make_sequences(USERS, 4)
    queries = build_queries(sequences, "test")
    scores = signed_popularity_scorer(sequences, ("train",), 2.0)(queries)
    np.testing.assert_allclose(scores[0, 1:], np.log([1 / 2, 3, 3, 1 / 3]))  # 1-2·1, 2, 2, 0-2·1


def test_rate_adjusted_adds_the_smoothed_log_rate(make_sequences):
    sequences = make_sequences(USERS, 4)
    queries = build_queries(sequences, "test")
    base = random_scorer(sequences, 0)
    overall = (5 + 1) / (7 + 1)
    positive, labelled = np.array([1, 2, 2, 0]), np.array([2, 2, 2, 1])
    rate = (positive + PRIOR_EVENTS * overall) / (labelled + PRIOR_EVENTS)
    shift = np.subtract(rate_adjusted(base, sequences, ("train",), 2.0)(queries), base(queries))
    np.testing.assert_allclose(shift[:, 1:], np.tile(2 * np.log(rate), (3, 1)), atol=1e-6)


def test_cached_scores_a_block_once(log):
    asked = []
    base = random_scorer(log, 0)
    scorer = cached(lambda block: (asked.append(len(block)), base(block))[1])
    queries = build_queries(log, "test").without_answers()
    for block in (queries.block(0, 5), queries.block(0, 5), queries.block(5, 9)):
        np.testing.assert_array_equal(scorer(block), base(block))
    assert asked == [5, 4]


@pytest.fixture
def disliker(make_sequences):
    """User 0 disliked item 1 (creator 1, with items 1 and 3) and item 4, whose creator is unknown.

    Item 2, of the same unknown creator, was skipped, not disliked.
    """
    users = [
        [(1, "-", "train"), (2, "-", "train"), (4, "-", "train"), (5, "+", "test")],
        [(5, "+", "train"), (1, "+", "test")],
    ]
    sequences = make_sequences(users, 5)
    creator_V = np.array([0, 1, 0, 1, 0, 2], np.int32)
    return dataclasses.replace(
        sequences,
        catalogue=dataclasses.replace(sequences.catalogue, creator_V=creator_V),
        dislike_E=np.array([2, 1, 2, 0, 1, 0], np.uint8),
    )


@pytest.mark.parametrize(
    ("filtered", "blocked"), [(drop_disliked, [1, 4]), (block_creator, [1, 3, 4])]
)
def test_filters_rank_blocked_items_last(disliker, filtered, blocked):
    queries = build_queries(disliker, "test")
    scores = np.array([[0, 5, 4, 3, 2, 1.0]] * 2, np.float32)
    found = np.asarray(filtered(lambda block: scores, disliker)(queries))
    np.testing.assert_array_equal(found[1], scores[1])  # who disliked nothing
    order = (1 + np.argsort(-found[0, 1:])).tolist()
    assert order == [i for i in range(1, 6) if i not in blocked] + blocked
    assert np.isfinite(found).all()
