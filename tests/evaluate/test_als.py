import numpy as np
import pytest
from scipy import sparse

from negflax.config import EvalConfig
from negflax.evaluate import build_queries
from negflax.evaluate.baselines import als, item_based
from negflax.evaluate.baselines.interactions import interactions, profiles, tie_break

pytest.importorskip("implicit", reason="needs implicit: pip install 'negflax[als]'")


def reference_users(profile, items):
    """One least-squares step in float64; an entry x has the confidence α·x."""
    items = np.float64(items)
    users = []
    for row in profile:
        confidence = als.CONFIDENCE * np.float64(row)
        seen = confidence > 0
        left = items.T @ items + als.L2 * np.eye(items.shape[1])
        left += (items[seen].T * (confidence[seen] - 1)) @ items[seen]
        users.append(np.linalg.solve(left, items[seen].T @ confidence[seen]))
    return np.array(users)


@pytest.mark.parametrize("decay", [1.0, 0.8])
def test_scores_are_those_of_a_least_squares_step(log, decay):
    matrix = interactions(log, ("train",), log.positive_weight_E)
    fitted, popularity = als.fit_als(matrix, 0), tie_break(matrix)
    queries = build_queries(log, "test")
    profile = profiles(log, queries, log.positive_weight_E, decay).toarray()
    items = fitted.item_factors
    expected = reference_users(profile, items) @ np.float64(items).T + popularity
    found = als.als_scorer(log, fitted, popularity, decay)(queries)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_it_finds_a_block_of_items_that_go_together():
    matrix = sparse.csr_array(np.kron(np.eye(2), np.ones((6, 5))).astype(np.float32))
    fitted = als.fit_als(matrix, 0)
    users = reference_users(matrix.toarray(), fitted.item_factors)
    scores = users @ fitted.item_factors.T
    assert scores[:6, :5].min() > scores[:6, 5:].max()
    assert scores[6:, 5:].min() > scores[6:, :5].max()


def test_it_is_in_the_scoreboard(log):
    scorers, settings = item_based.item_baselines(log, ("train",), EvalConfig(ks=(5,)))
    assert "als" in scorers and settings["als/decay"] in item_based.ALS_DECAY
