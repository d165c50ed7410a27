"""Metrics from ranks against the worked values, a list-based reference and brute force."""

import itertools
import math

import jax
import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.config import EvalConfig
from negflax.evaluate import EvaluationError, aggregate, query_values, rank_queries

LAMBDAS = (0.0, 1.0, 2.0, 5.0)
HIGHER_IS_BETTER = (
    "precision",
    "recall",
    "dcg",
    "ndcg_signed",
    "ndcg_minmax",
    "ndcg_p",
    "coverage",
    "coverage_macro",
    "avoidance",
    "negative_precision",
    "negative_f1",
    "utility",
)
LOWER_IS_BETTER = ("anti_precision", "anti_ndcg", "hr_n")


def reference(ranking, positives, negatives, k):
    """The metrics of one query from its ranked list, the obvious way: (value, weight)."""
    assert len(set(ranking)) == len(ranking)
    listed = ranking[:k]
    hits_p, hits_n = (len(set(listed) & wanted) for wanted in (positives, negatives))
    avoided = (positives | negatives) - set(listed)
    kept_out = negatives & avoided

    def gain(wanted):
        return sum(1 / math.log2(n + 2) for n, item in enumerate(listed) if item in wanted)

    def ideal(wanted):
        return sum(1 / math.log2(n + 2) for n in range(min(k, len(wanted))))

    def share(part, whole, weight=None):
        return (part / whole, 1 if weight is None else weight) if whole else (math.nan, 0)

    pairs = [(ranking.index(p) < ranking.index(n)) for p in positives for n in negatives]
    places = [ranking.index(n) + 1 for n in negatives]
    judged = bool(positives or negatives)
    size = len(negatives)
    found = {
        "precision": (hits_p / k, bool(positives)),
        "recall": share(hits_p, len(positives)),
        "hr_p": (hits_p > 0, bool(positives)),
        "ndcg_p": share(gain(positives), ideal(positives)),
        "anti_precision": (hits_n / k, bool(negatives)),
        "hr_n": (hits_n > 0, bool(negatives)),
        "avoidance": (hits_n == 0, bool(negatives)),
        "anti_ndcg": share(gain(negatives), ideal(negatives)),
        "coverage": share(len(kept_out), size, size),
        "coverage_macro": share(len(kept_out), size),
        "negative_precision": share(len(kept_out), len(avoided)),
        "negative_f1": share(2 * len(kept_out), len(avoided) + size, len(avoided) + size)
        if negatives
        else (math.nan, 0),
        "auc": share(sum(pairs), len(pairs)),
        "negative_rank": share(sum(places), size, size),
    }
    for x in LAMBDAS:
        dcg, end = gain(positives) - x * gain(negatives), f"/lambda={x:g}"
        span = ideal(positives) + x * ideal(negatives)
        found |= {
            f"dcg{end}": (dcg, judged),
            f"ndcg_signed{end}": share(dcg, ideal(positives)),
            f"ndcg_minmax{end}": share(dcg + x * ideal(negatives), span),
            f"utility{end}": (hits_p - x * hits_n, judged),
        }
    return found


def without_k(values):
    """`hr_p@5` → `hr_p`, `dcg@5/lambda=1` → `dcg/lambda=1`."""
    result = {}
    for key, value in values.items():
        name, _, rest = key.partition("@")
        result[name + ("/" + rest.split("/")[1] if "/" in rest else "")] = value
    return result


def scores_of(lists, num_items):
    """Scores that rank each list first, in its order, and all else below, in row order."""
    scores = -np.tile(np.arange(num_items + 1.0), (len(lists), 1))
    for row, ranked in enumerate(lists):
        scores[row, ranked] = 1000 - np.arange(len(ranked))
    return scores


@pytest.fixture(scope="session")
def evaluate(make_queries):
    """Metrics query by query of given scores (R, V) and (positives, negatives) pairs."""

    def run(scores_RV, judged, ks):
        sequences, queries = make_queries(judged, scores_RV.shape[1] - 1)
        ranks = rank_queries(lambda block: scores_RV, queries, sequences, False, len(judged))
        return query_values(ranks, queries, EvalConfig(ks=ks, lambdas=LAMBDAS))

    return run


# The page's items 0..19 are catalogue rows 1..20.
FIRST = ([4, 8, 2, 10, 5], ({2, 5, 13}, {8, 16}))
SECOND = ([1, 3, 6, 7, 9], ({3}, {12, 14, 15, 17}))


def test_worked_query(evaluate):
    got = aggregate(evaluate(scores_of([FIRST[0]], 20), [FIRST[1]], (5,)))
    expected = {
        "precision@5": 0.40,
        "recall@5": 0.667,
        "anti_precision@5": 0.20,
        "ndcg_p@5": 0.4162,
        "anti_ndcg@5": 0.3869,
        "coverage@5": 0.50,
        "avoidance@5": 0.0,
        "hr_p@5": 1.0,
        "hr_n@5": 1.0,
        "delta@5": 0.0,
        "coverage_macro@5": 0.50,
        "dcg@5/lambda=0": 0.8869,
        "dcg@5/lambda=1": 0.2559,
        "dcg@5/lambda=2": -0.3750,
        "ndcg_signed@5/lambda=0": 0.4162,
        "ndcg_signed@5/lambda=1": 0.1201,
        "ndcg_signed@5/lambda=2": -0.1760,
        "ndcg_minmax@5/lambda=0": 0.4162,
        "ndcg_minmax@5/lambda=1": 0.5016,
        "ndcg_minmax@5/lambda=2": 0.5353,
        "negative_precision@5": 0.50,
        "negative_f1@5": 0.50,
        "utility@5/lambda=1": 1.0,
        "utility@5/lambda=2": 0.0,
    }
    assert {key: got[key] for key in expected} == pytest.approx(expected, abs=5e-4)


def test_two_worked_queries(evaluate):
    values = evaluate(scores_of([FIRST[0], SECOND[0]], 20), [FIRST[1], SECOND[1]], (5,))
    got = aggregate(values)
    assert got["coverage@5"] == pytest.approx(0.8333, abs=5e-5)
    assert got["coverage_macro@5"] == pytest.approx(0.75)
    assert got["avoidance@5"] == pytest.approx(0.50)
    assert got["negative_precision@5"] == pytest.approx((1 / 2 + 4 / 4) / 2)
    assert got["negative_f1@5"] == pytest.approx(2 * (1 + 4) / (2 + 2 + 4 + 4))  # pooled
    assert values["hr_p@5"].count == 2


def test_worked_weighted_loss(evaluate):
    share = np.full(20, (1 - 0.2 - 0.05 - 0.1) / 17)
    share[[0, 1, 2]] = 0.2, 0.05, 0.1
    scores = np.concatenate([[0.0], np.log(share)])[None] + 7
    values = evaluate(scores, [({1, 2}, {3})], (5,))
    assert values["weighted_loss"].mean() == pytest.approx(0.9843, abs=5e-5)
    assert values["weighted_loss"].weight_R == pytest.approx(5.0)


def test_undefined_queries_are_left_out_and_counted(evaluate):
    judged = [({1}, set()), (set(), {2}), ({3}, {4})]
    values = evaluate(scores_of([[1, 2, 3, 4]] * 3, 10), judged, (2,))
    assert values["hr_p@2"].count == values["hr_n@2"].count == 2
    assert values["auc"].count == 1
    assert np.isnan(values["ndcg_p@2"].value_R[1]) and np.isnan(values["coverage@2"].value_R[0])
    nothing = aggregate(evaluate(scores_of([[1]], 10), [({1}, set())], (2,)))
    assert np.isnan(nothing["hr_n@2"]) and np.isnan(nothing["delta@2"])
    assert nothing["hr_p@2"] == 1


def test_item_judged_twice_is_an_error(evaluate):
    with pytest.raises(EvaluationError, match="the same judged item twice"):
        evaluate(scores_of([[1]], 10), [({1}, {1})], (2,))


small_queries = st.tuples(
    st.lists(st.integers(0, 2), min_size=6, max_size=6),
    st.lists(st.sampled_from("+- "), min_size=6, max_size=6),
    st.integers(1, 7),
)


@settings(max_examples=60, deadline=None)
@given(small_queries)
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
    got = without_k(values)
    for key in all_values[0]:
        value, weight = np.array([one[key] for one in all_values], float).T
        assert got[key].weight_R[0] == pytest.approx(weight.mean(), abs=1e-9), key
        if weight.any():
            expected = np.average(np.nan_to_num(value), weights=weight)
            assert got[key].value_R[0] == pytest.approx(expected, abs=1e-9), key
        else:
            assert np.isnan(got[key].value_R[0])


def test_large_tie_group_is_hypergeometric(evaluate):
    values = evaluate(np.zeros((1, 5001)), [({1, 2, 3}, {4})], (10,))
    miss = math.comb(4997, 10) / math.comb(5000, 10)
    assert values["hr_p@10"].mean() == pytest.approx(1 - miss, rel=1e-6)
    assert values["hr_n@10"].mean() == pytest.approx(10 / 5000, rel=1e-6)
    assert values["auc"].mean() == 0.5


lists_of_rows = st.permutations(list(range(1, 13)))
judgements = st.lists(st.sampled_from("+-    "), min_size=12, max_size=12)


def metrics_of(evaluate, ranking, signs, k=5):
    """Aggregated metrics of one query without ties; signs are by item row."""
    positives = {i + 1 for i, sign in enumerate(signs) if sign == "+"}
    negatives = {i + 1 for i, sign in enumerate(signs) if sign == "-"}
    values = evaluate(scores_of([list(ranking)], 12), [(positives, negatives)], (k,))
    return without_k(aggregate(values))


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
        for key in before:
            name = key.split("/")[0]
            if name in HIGHER_IS_BETTER:
                assert not after[key] > before[key] + 1e-12, key
            if name in LOWER_IS_BETTER:
                assert not after[key] < before[key] - 1e-12, key
    if upper == "-" and lower == " ":  # a negative moves down
        assert not after["anti_ndcg"] > before["anti_ndcg"] + 1e-12
        for x in LAMBDAS:
            for name in ("dcg", "ndcg_signed", "ndcg_minmax"):
                key = f"{name}/lambda={x:g}"
                assert not after[key] < before[key] - 1e-12, key


@settings(max_examples=30, deadline=None)
@given(lists_of_rows, judgements)
def test_utility_is_the_undiscounted_dcg(evaluate, ranking, signs):
    got = metrics_of(evaluate, ranking, signs)
    grade = {"+": 1, "-": -1, " ": 0}
    for x in LAMBDAS:
        gains = [grade[signs[item - 1]] for item in ranking[:5]]
        expected = sum(g if g > 0 else x * g for g in gains)
        if set(signs) - {" "}:
            assert got[f"utility/lambda={x:g}"] == pytest.approx(expected)
        else:
            assert np.isnan(got[f"utility/lambda={x:g}"])
    assert got["dcg/lambda=0"] == pytest.approx(
        got["ndcg_signed/lambda=0"]
        * sum(1 / math.log2(n + 2) for n in range(min(5, signs.count("+")))),
        nan_ok=True,
    ) or not signs.count("+")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.permutations(list(range(1, 9))), min_size=1, max_size=5), st.data())
def test_one_negative_a_query_makes_three_metrics_one(evaluate, rankings, data):
    negatives = [data.draw(st.integers(1, 8)) for _ in rankings]
    values = evaluate(scores_of(rankings, 8), [(set(), {n}) for n in negatives], (3,))
    got = aggregate(values)
    assert got["coverage@3"] == pytest.approx(got["coverage_macro@3"])
    assert got["coverage@3"] == pytest.approx(got["avoidance@3"])


def test_metrics_of_a_part_of_the_judged_items(make_queries):
    sequences, queries = make_queries([FIRST[1], SECOND[1]], 20)
    scores = scores_of([FIRST[0], SECOND[0]], 20)
    ranks = rank_queries(lambda block: scores, queries, sequences, False, 2)
    part = queries.judged_positive_J | (queries.judged_item_J == 8)
    got = query_values(ranks, queries, EvalConfig(ks=(5,)), part)
    whole = query_values(ranks, queries, EvalConfig(ks=(5,)))
    assert got["coverage@5"].weight_R.tolist() == [1, 0] and got["coverage@5"].mean() == 0
    assert got["recall@5"].mean() == whole["recall@5"].mean()


def test_a_query_without_pairs_makes_no_nan_on_the_way(evaluate):
    judged = [({1, 2}, set()), (set(), {3}), ({1}, {2})]
    with jax.debug_nans(True):
        values = evaluate(scores_of([[1, 2, 3]] * 3, 20), judged, (5,))
    assert values["auc"].weight_R.tolist() == [0, 0, 1]
    assert np.isnan(values["auc"].value_R[:2]).all() and values["auc"].value_R[2] == 1


def test_mean_rank_of_negatives(evaluate):
    values = evaluate(scores_of([FIRST[0], SECOND[0]], 20), [FIRST[1], SECOND[1]], (5,))
    first = [2, 1 + 5 + sum(item not in FIRST[0] for item in range(1, 16))]
    assert values["negative_rank"].value_R[0] == pytest.approx(np.mean(first))
    assert values["negative_rank"].weight_R.tolist() == [2, 4]


def test_positives_only_metrics_agree_with_trec_eval(evaluate):
    rng = np.random.default_rng(7)
    judged = [
        (set(rng.choice(60, rng.integers(1, 9), replace=False) + 1), set()) for _ in range(40)
    ]
    scores = rng.permuted(np.tile(np.arange(61.0), (40, 1)), axis=1)
    values = evaluate(scores, judged, (5, 20))
    names = {"P": "precision", "recall": "recall", "ndcg_cut": "ndcg_p", "success": "hr_p"}
    judge = pytrec_eval.RelevanceEvaluator(
        {str(r): {str(i): 1 for i in positives} for r, (positives, _) in enumerate(judged)},
        {f"{name}.5,20" for name in names},
    )
    run = {str(r): {str(i): row[i] for i in range(1, 61)} for r, row in enumerate(scores)}
    expected = judge.evaluate(run)
    for theirs, ours in names.items():
        for k in (5, 20):
            wanted = [expected[str(r)][f"{theirs}_{k}"] for r in range(40)]
            np.testing.assert_allclose(values[f"{ours}@{k}"].value_R, wanted, atol=1e-9)
