"""Baselines that react to dislikes and train nothing, against plain loops in float64."""

import dataclasses

import numpy as np
import pytest

from negflax.config import EvalConfig
from negflax.evaluate.baselines.personal_scores import (
    ALONE,
    BETAS,
    RECENT,
    Adjustment,
    best_example_beta,
    betas,
    largest_cosine,
    negative_example,
    recently_disliked,
)
from negflax.evaluate.protocol import LazyScores, Queries


@pytest.fixture
def disliker(log):
    """The log with many dislikes."""
    rng = np.random.default_rng(0)
    return dataclasses.replace(log, dislike_E=rng.integers(1, 3, len(log.item_E)).astype("uint8"))


def last_dislikes(sequences, user, end):
    events = range(sequences.offsets_U1[user], end)
    return [
        int(sequences.item_E[e])
        for e in events
        if sequences.dislike_E[e] == 2 and sequences.item_E[e] > 0
    ][-RECENT:]


def test_negative_examples_by_plain_loops(disliker):
    rng, rows = np.random.default_rng(1), disliker.catalogue.num_rows
    vectors = rng.normal(size=(rows, 4))
    unit_VD = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    user_R = np.flatnonzero(np.diff(disliker.offsets_U1) > 0)[:20]
    queries = Queries.of_users(user_R, disliker.offsets_U1[user_R + 1])
    base_RV = rng.normal(size=(len(queries), rows)).astype(np.float32)
    scorer = negative_example(
        lambda _: LazyScores(base_RV.shape, lambda asked: base_RV[:, asked]), unit_VD, disliker, 0.7
    )
    found_RV, kept_RN = np.asarray(scorer(queries)), recently_disliked(disliker, queries)
    lengths = set()
    for query, user in enumerate(user_R):
        said_no = last_dislikes(disliker, user, queries.end_R[query])
        assert [x for x in kept_RN[query][::-1] if x] == said_no  # the newest one is first
        lengths.add(len(said_no))
        for item in range(rows):
            cosines = [
                vectors[x]
                @ vectors[item]
                / np.sqrt((vectors[x] ** 2).sum())
                / np.sqrt((vectors[item] ** 2).sum())
                for x in said_no
            ]
            expected = base_RV[query, item] - 0.7 * max(cosines, default=0.0)
            assert found_RV[query, item] == pytest.approx(expected, abs=1e-5)
    assert len(lengths) > 1


def test_users_without_dislikes_have_no_term():
    unit_VD = np.eye(3, dtype=np.float32)
    near_RC = largest_cosine(unit_VD, np.array([[0, 0], [0, 2]]), unit_VD, np)
    np.testing.assert_array_equal(near_RC, [[0, 0, 0], [0, 0, 1]])


def test_without_a_validation_period_the_first_beta_is_used(disliker):
    config = EvalConfig(ks=(5,))
    alone = dataclasses.replace(disliker, split_E=np.zeros_like(disliker.split_E))
    assert best_example_beta(None, None, alone, config) == BETAS[0]


def test_each_beta_is_named():
    added = {"model": ALONE, "counts": Adjustment(), "negative_example": Adjustment(False, 0, 2.0)}
    assert betas(added) == {"negative_example/beta": 2.0}
