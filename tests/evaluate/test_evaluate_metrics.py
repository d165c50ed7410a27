"""Metrics from ranks against SPEC's worked values, a list-based reference and brute force."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.evaluate import EvaluationError, aggregate, rank_requests, request_values


def reference(ranking, positives, negatives, k):
    """The metrics of one request from its ranked list, the obvious way; None where undefined."""
    assert len(set(ranking)) == len(ranking)
    listed = ranking[:k]
    hits_p = [item for item in listed if item in positives]
    hits_n = [item for item in listed if item in negatives]

    def gain(wanted):
        total = sum(1 / math.log2(n + 2) for n, item in enumerate(listed) if item in wanted)
        return total / sum(1 / math.log2(n + 2) for n in range(min(k, len(wanted))))

    pairs = [(ranking.index(p) < ranking.index(n)) for p in positives for n in negatives]
    return {
        "precision": len(hits_p) / k if positives else None,
        "recall": len(hits_p) / len(positives) if positives else None,
        "hr_p": float(bool(hits_p)) if positives else None,
        "ndcg_p": gain(positives) if positives else None,
        "anti_precision": len(hits_n) / k if negatives else None,
        "hr_n": float(bool(hits_n)) if negatives else None,
        "avoidance": float(not hits_n) if negatives else None,
        "anti_ndcg": gain(negatives) if negatives else None,
        "coverage": 1 - len(hits_n) / len(negatives) if negatives else None,
        "coverage_macro": 1 - len(hits_n) / len(negatives) if negatives else None,
        "auc": sum(pairs) / len(pairs) if pairs else None,
    }


def scores_of(lists, num_items):
    """Scores that rank each list first, in its order, and all else below, in row order."""
    scores = -np.tile(np.arange(num_items + 1.0), (len(lists), 1))
    for row, ranked in enumerate(lists):
        scores[row, ranked] = 1000 - np.arange(len(ranked))
    return scores


@pytest.fixture(scope="session")
def evaluate(make_requests):
    """Metrics request by request of given scores (R, V) and (positives, negatives) pairs."""

    def run(scores_RV, judged, ks, weight=3.0):
        sequences, requests = make_requests(judged, scores_RV.shape[1] - 1)
        ranks = rank_requests(lambda block: scores_RV, requests, sequences, False, len(judged))
        return request_values(ranks, requests, ks, weight)

    return run


# SPEC's items 0..19 are catalogue rows 1..20.
FIRST = ([4, 8, 2, 10, 5], ({2, 5, 13}, {8, 16}))
SECOND = ([1, 3, 6, 7, 9], ({3}, {12, 14, 15, 17}))


def test_worked_request(evaluate):
    got = aggregate(evaluate(scores_of([FIRST[0]], 20), [FIRST[1]], (5,)))
    expected = {"precision@5": 0.40, "recall@5": 0.667, "anti_precision@5": 0.20,
                "ndcg_p@5": 0.4162, "anti_ndcg@5": 0.3869, "coverage@5": 0.50, "avoidance@5": 0.0,
                "hr_p@5": 1.0, "hr_n@5": 1.0, "delta@5": 0.0}  # fmt: skip
    assert {key: got[key] for key in expected} == pytest.approx(expected, abs=5e-4)


def test_two_worked_requests(evaluate):
    values = evaluate(scores_of([FIRST[0], SECOND[0]], 20), [FIRST[1], SECOND[1]], (5,))
    got = aggregate(values)
    assert got["coverage@5"] == pytest.approx(0.8333, abs=5e-5)
    assert got["coverage_macro@5"] == pytest.approx(0.75)
    assert got["avoidance@5"] == pytest.approx(0.50)
    assert values["hr_p@5"].count == 2


def test_worked_weighted_loss(evaluate):
    share = np.full(20, (1 - 0.2 - 0.05 - 0.1) / 17)
    share[[0, 1, 2]] = 0.2, 0.05, 0.1
    scores = np.concatenate([[0.0], np.log(share)])[None] + 7
    values = evaluate(scores, [({1, 2}, {3})], (5,))
    assert values["weighted_loss"].mean() == pytest.approx(0.9843, abs=5e-5)
    assert values["weighted_loss"].weight_R == pytest.approx(5.0)


def test_undefined_requests_are_left_out_and_counted(evaluate):
    judged = [({1}, set()), (set(), {2}), ({3}, {4})]
    values = evaluate(scores_of([[1, 2, 3, 4]] * 3, 10), judged, (2,))
    assert values["hr_p@2"].count == values["hr_n@2"].count == 2
    assert values["auc"].count == 1
    assert np.isnan(values["ndcg_p@2"].value_R[1]) and np.isnan(values["coverage@2"].value_R[0])
    nothing = aggregate(evaluate(scores_of([[1]], 10), [({1}, set())], (2,)))
    assert np.isnan(nothing["hr_n@2"]) and np.isnan(nothing["delta@2"])
    assert nothing["hr_p@2"] == 1


def test_item_judged_twice_is_an_error(evaluate):
    with pytest.raises(EvaluationError, match="judged twice"):
        evaluate(scores_of([[1]], 10), [({1}, {1})], (2,))


small_requests = st.tuples(
    st.lists(st.integers(0, 2), min_size=6, max_size=6),
    st.lists(st.sampled_from("+- "), min_size=6, max_size=6),
    st.integers(1, 7),
)


@settings(max_examples=60, deadline=None)
@given(small_requests)
def test_ties_count_as_their_expectation(evaluate, case):
    scores, signs, k = case
    positives = {i + 1 for i, sign in enumerate(signs) if sign == "+"}
    negatives = {i + 1 for i, sign in enumerate(signs) if sign == "-"}
    values = evaluate(np.array([[9.0, *scores]]), [(positives, negatives)], (k,))
    orders = [
        order
        for order in itertools.permutations(range(1, 7))
        if all(scores[a - 1] >= scores[b - 1] for a, b in itertools.pairwise(order))
    ]
    all_values = [reference(order, positives, negatives, k) for order in orders]
    for key, first in all_values[0].items():
        got = values[key if key == "auc" else f"{key}@{k}"].value_R[0]
        if first is None:
            assert np.isnan(got)
        else:
            assert got == pytest.approx(np.mean([one[key] for one in all_values]), abs=1e-9), key


def test_large_tie_group_is_hypergeometric(evaluate):
    values = evaluate(np.zeros((1, 5001)), [({1, 2, 3}, {4})], (10,))
    miss = math.comb(4997, 10) / math.comb(5000, 10)
    assert values["hr_p@10"].mean() == pytest.approx(1 - miss, rel=1e-6)
    assert values["hr_n@10"].mean() == pytest.approx(10 / 5000, rel=1e-6)
    assert values["auc"].mean() == 0.5


lists_of_rows = st.permutations(list(range(1, 13)))
judgements = st.lists(st.sampled_from("+-    "), min_size=12, max_size=12)


def metrics_of(evaluate, ranking, signs, k=5):
    """Aggregated metrics of one request without ties; signs are by item row."""
    positives = {i + 1 for i, sign in enumerate(signs) if sign == "+"}
    negatives = {i + 1 for i, sign in enumerate(signs) if sign == "-"}
    got = aggregate(evaluate(scores_of([list(ranking)], 12), [(positives, negatives)], (k,)))
    return {key.removesuffix(f"@{k}"): value for key, value in got.items()}


@settings(max_examples=60, deadline=None)
@given(lists_of_rows, judgements, st.integers(0, 11), st.integers(0, 11))
def test_properties_of_swaps(evaluate, ranking, signs, i, j):
    i, j = sorted((i, j))
    swapped = list(ranking)
    swapped[i], swapped[j] = swapped[j], swapped[i]
    upper, lower = signs[ranking[i] - 1], signs[ranking[j] - 1]
    before, after = (metrics_of(evaluate, r, signs) for r in (ranking, swapped))
    if upper == lower == " ":  # two unknowns: nothing changes (the loss reads scores, not ranks)
        keys = [key for key in before if key != "weighted_loss"]
        assert [after[key] for key in keys] == pytest.approx(
            [before[key] for key in keys], nan_ok=True
        )
    if upper == " " and lower == "-":  # a negative takes an unknown's better place
        for key in ("precision", "recall", "ndcg_p", "coverage", "coverage_macro", "avoidance"):
            assert not after[key] > before[key] + 1e-12, key
        for key in ("anti_precision", "anti_ndcg", "hr_n"):
            assert not after[key] < before[key] - 1e-12, key
    if upper == "-" and lower == " ":  # a negative moves down
        assert not after["anti_ndcg"] > before["anti_ndcg"] + 1e-12
        assert not after["ndcg_p"] < before["ndcg_p"] - 1e-12


@settings(max_examples=30, deadline=None)
@given(st.lists(st.permutations(list(range(1, 9))), min_size=1, max_size=5), st.data())
def test_one_negative_a_request_makes_three_metrics_one(evaluate, rankings, data):
    negatives = [data.draw(st.integers(1, 8)) for _ in rankings]
    values = evaluate(scores_of(rankings, 8), [(set(), {n}) for n in negatives], (3,))
    got = aggregate(values)
    assert got["coverage@3"] == pytest.approx(got["coverage_macro@3"])
    assert got["coverage@3"] == pytest.approx(got["avoidance@3"])
