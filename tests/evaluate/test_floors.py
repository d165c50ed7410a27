"""Floors: popularity, Markov and random scorers."""

import numpy as np
import pytest

from negflax.evaluate import build_requests, markov_scorer, popularity_scorer, random_scorer

USERS = [
    [(1, "+", "train"), (2, "+", "train"), (1, "", "train"), (2, "+", "train"), (1, "-", "valid"),
     (3, "+", "test")],
    [(1, "-", "train"), (3, "+", "train"), (4, "-", "train"), (4, "+", "test")],
    [(2, "+", "test")],
    [(4, "", "train")],
    [(3, "+", "train")],  # another user: no transition from the 4 above
]  # fmt: skip


def test_popularity_counts_positives_of_its_splits(make_sequences):
    sequences = make_sequences(USERS, 4)
    requests = build_requests(sequences, "test")
    scores = popularity_scorer(sequences, ("train",))(requests)
    assert scores.shape == (3, 5)
    np.testing.assert_allclose(np.exp(scores[0, 1:]) - 1, [1, 2, 2, 0])
    later = popularity_scorer(sequences, ("train", "valid", "test"))(requests)
    np.testing.assert_allclose(np.exp(later[2, 1:]) - 1, [1, 3, 3, 1])


def test_markov_counts_transitions_to_positives(make_sequences):
    sequences = make_sequences(USERS, 4)
    requests = build_requests(sequences, "test")
    scores = np.exp(markov_scorer(sequences, ("train",))(requests))
    backoff = np.array([2, 3, 3, 1]) / 11
    assert (backoff < 1).all()
    np.testing.assert_allclose(scores[0, 1:], backoff + [0, 2, 1, 0])  # after item 1: 2 twice, 3
    np.testing.assert_allclose(scores[1, 1:], backoff)  # nothing followed item 4
    np.testing.assert_allclose(scores[2, 1:], backoff)  # no history


def test_random_depends_on_user_item_and_seed_only(log):
    requests = build_requests(log, "test")
    scorer = random_scorer(log, 3)
    whole = scorer(requests)
    parts = np.concatenate([scorer(requests.block(0, 11)), scorer(requests.block(11, 10**6))])
    np.testing.assert_array_equal(whole, parts)
    assert whole.min() >= 0 and whole.max() <= 1
    assert whole.mean() == pytest.approx(0.5, abs=0.01)
    assert len(np.unique(whole[:, 1:].argmax(axis=1))) == 40
    assert abs(np.corrcoef(whole[:50, 1:])[np.triu_indices(50, 1)]).mean() < 0.2
    assert not np.array_equal(whole, random_scorer(log, 4)(requests))
