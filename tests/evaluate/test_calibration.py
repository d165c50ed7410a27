import numpy as np
import pytest
from scipy.special import softmax

from negflax.config import EvalConfig
from negflax.evaluate.calibration import EDGES, MIN_JUDGED, calibrate, calibration_figures

CONFIG = EvalConfig(bootstrap=50, users_per_block=7)
ITEMS = 30


@pytest.fixture(scope="module")
def asked(make_queries):
    """150 queries whose liked and disliked items are drawn at random, and scores."""
    rng = np.random.default_rng(0)
    judged = []
    for _ in range(150):
        items = rng.permutation(np.arange(1, ITEMS + 1))
        positives = rng.integers(0, 3)
        judged.append((items[:positives], items[positives : positives + rng.integers(0, 3)]))
    _, queries = make_queries(judged, ITEMS)
    scores_RV = rng.normal(size=(150, ITEMS + 1)).astype(np.float32) * 2
    return judged, queries, scores_RV


def scorer(scores_RV):
    return lambda queries: scores_RV[queries.user_R]


def test_equals_a_loop_over_all_pairs(asked):
    judged, queries, scores_RV = asked
    found = calibrate(scorer(scores_RV), queries, CONFIG)
    for sign, name in enumerate(("positive", "negative")):
        p, share, hits = {}, {}, {}
        for r, sides in enumerate(judged):
            if not len(sides[sign]):
                continue
            for item, p_item in enumerate(softmax(scores_RV[r, 1:].astype(float)), 1):
                edge = float(max([0, *EDGES[p_item >= EDGES]]))
                hit = item in sides[sign]
                p.setdefault(edge, []).append(p_item)
                share.setdefault(edge, []).append(hit / len(sides[sign]))
                hits[edge] = hits.get(edge, 0) + hit
        expected = [edge for edge in sorted(p) if hits[edge] >= MIN_JUDGED]
        assert [one.edge for one in found[name]] == expected
        for one in found[name]:
            assert one.n == hits[one.edge]
            np.testing.assert_allclose(one.predicted, np.mean(p[one.edge]), rtol=1e-5)
            np.testing.assert_allclose(one.observed, np.mean(share[one.edge]), rtol=1e-9)
            assert one.low <= one.observed <= one.high


def test_a_calibrated_scorer_is_on_the_diagonal(make_queries):
    rng = np.random.default_rng(1)
    scores_RV = rng.normal(size=(3000, ITEMS + 1)) * 2
    p_RV = softmax(scores_RV[:, 1:], axis=1)
    next_R = [1 + rng.choice(ITEMS, p=p_V) for p_V in p_RV]
    _, queries = make_queries([([item], []) for item in next_R], ITEMS)
    found = calibrate(scorer(scores_RV), queries, EvalConfig(bootstrap=400))
    assert len(found["positive"]) >= 4 and found["negative"] == []
    for one in found["positive"]:
        margin = one.high - one.low  # 95 % intervals: twice their width is never left
        assert abs(one.observed - one.predicted) < margin


def test_figures_are_flat(asked):
    _, queries, scores_RV = asked
    found = calibrate(scorer(scores_RV), queries, CONFIG)
    figures = calibration_figures(found)
    assert len(figures) == 5 * sum(map(len, found.values()))
    one = found["negative"][0]
    assert figures[f"calibration/negative/p={one.edge:.0e}_n"] == one.n
