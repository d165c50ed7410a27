"""EASE and item-kNN: against float64 references, their profiles, and how they are chosen."""

import dataclasses
import importlib.util

import numpy as np
import pytest

from negflax.config import EvalConfig
from negflax.evaluate import build_queries, evaluate_scorer
from negflax.evaluate.baselines import BASELINES, baseline_names, item_based
from negflax.evaluate.baselines.ease import fit_ease, profile_scorer
from negflax.evaluate.baselines.interactions import TIE_BREAK, interactions, profiles
from negflax.evaluate.baselines.interactions import tie_break as popularity
from negflax.evaluate.baselines.item_knn import nearest, neighbour_scorer
from negflax.evaluate.baselines.markov import default_baselines
from negflax.evaluate.baselines.popularity import random_scorer
from negflax.evaluate.baselines.rate_adjusted import model_baselines

CONFIG = EvalConfig(ks=(5,), bootstrap=20)


def ease_scorer(sequences, splits, l2, c=0.0):
    matrix = interactions(sequences, splits, sequences.positive_weight_E)
    return profile_scorer(sequences, fit_ease(matrix, l2), popularity(matrix), c)


def item_knn_scorer(sequences, splits, k):
    matrix = interactions(sequences, splits, sequences.positive_weight_E)
    return neighbour_scorer(sequences, nearest(matrix, k), k, popularity(matrix))


def dense(sequences, splits, sign):
    """The matrix, event by event."""
    weight_E = getattr(sequences, f"{sign}_weight_E")
    matrix = np.zeros((len(sequences.user_ids), sequences.catalogue.num_rows))
    for user, (start, stop) in enumerate(
        zip(sequences.offsets_U1[:-1], sequences.offsets_U1[1:], strict=True)
    ):
        for e in range(start, stop):
            if weight_E[e] > 0 and ("train", "valid", "test")[sequences.split_E[e]] in splits:
                matrix[user, sequences.item_E[e]] = 1
    return matrix


def reference_weights(matrix, l2):
    inverse = np.linalg.inv(matrix.T @ matrix + l2 * np.eye(matrix.shape[1]))
    weights = np.eye(len(inverse)) - inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def reference_cosines(matrix, k):
    count = np.maximum(matrix.sum(axis=0), 1)
    cosine = ((matrix.T @ matrix) / np.sqrt(np.outer(count, count))).astype(np.float32)
    np.fill_diagonal(cosine, 0)
    kept = np.zeros_like(cosine)
    for item in range(len(cosine)):
        near = np.argsort(-cosine[:, item], kind="stable")[:k]
        kept[near, item] = cosine[near, item]
    return kept


def histories(sequences, queries, sign):
    """What each query's history likes or dislikes."""
    weight_E = getattr(sequences, f"{sign}_weight_E")
    found = np.zeros((len(queries), sequences.catalogue.num_rows))
    for r, (user, end) in enumerate(zip(queries.user_R, queries.end_R, strict=True)):
        for e in range(sequences.offsets_U1[user], end):
            found[r, sequences.item_E[e]] = max(found[r, sequences.item_E[e]], weight_E[e] > 0)
    return found


def tie_break(matrix):
    return TIE_BREAK * matrix.sum(axis=0) / matrix.sum(axis=0).max()


@pytest.mark.parametrize("c", [0.0, 0.7])
def test_ease_is_the_closed_form(log, c):
    queries = build_queries(log, "test")
    matrix = dense(log, ("train", "valid"), "positive")
    profile = histories(log, queries, "positive") - c * histories(log, queries, "negative")
    expected = profile @ reference_weights(matrix, 3.0) + tie_break(matrix)
    found = ease_scorer(log, ("train", "valid"), 3.0, c)(queries)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_profiles_of_recent_items_decay(make_sequences):
    users = [[(1, "+", "train"), (2, "+", "train"), (3, "-", "train"), (1, "+", "train")]]
    users[0].append((2, "+", "test"))
    sequences = make_sequences(users, 3)
    queries = build_queries(sequences, "test")
    found = profiles(sequences, queries, sequences.positive_weight_E, 0.5)
    np.testing.assert_allclose(found.toarray(), [[0, 1, 0.25, 0]])  # the last 1, two events after 2


def test_ease_mirrors_in_blocks(log, monkeypatch):
    matrix = interactions(log, ("train",), log.positive_weight_E)
    whole = fit_ease(matrix, 3.0)
    monkeypatch.setattr("negflax.evaluate.baselines.ease.ROWS_PER_BLOCK", 7)
    np.testing.assert_array_equal(fit_ease(matrix, 3.0).weights_AA, whole.weights_AA)


@pytest.mark.parametrize("k", [1, 4, 40])
def test_item_knn_sums_the_cosines_of_the_nearest(log, k):
    queries = build_queries(log, "test")
    matrix = dense(log, ("train",), "positive")
    expected = histories(log, queries, "positive") @ reference_cosines(matrix, k)
    found = item_knn_scorer(log, ("train",), k)(queries)
    np.testing.assert_allclose(found, expected + tie_break(matrix), atol=2e-6)


def test_neighbours_in_blocks(log, monkeypatch):
    matrix = interactions(log, ("train",), log.positive_weight_E)
    whole = nearest(matrix, 5)
    monkeypatch.setattr("negflax.evaluate.baselines.item_knn.COSINES_ALIVE", 41 * 3)
    parts = nearest(matrix, 5)
    np.testing.assert_array_equal(whole.item_VK, parts.item_VK)
    np.testing.assert_allclose(whole.cosine_VK, parts.cosine_VK, atol=1e-7)


def test_nothing_after_the_query_is_read(log):
    queries = build_queries(log, "test")
    later = np.concatenate(
        [
            np.arange(end, log.offsets_U1[user + 1])
            for user, end in zip(queries.user_R, queries.end_R, strict=True)
        ]
    )
    weight_E = log.positive_weight_E.copy()
    weight_E[later] = 1 - weight_E[later]
    other = dataclasses.replace(log, positive_weight_E=weight_E)
    for scorer in (ease_scorer, item_knn_scorer):
        one, two = (scorer(x, ("train", "valid"), 10)(queries) for x in (log, other))
        np.testing.assert_array_equal(one, two)


def test_users_without_a_history_get_popularity(make_sequences):
    users = [
        [(1, "+", "train"), (2, "+", "train"), (2, "+", "train")],
        [(2, "+", "train"), (3, "+", "test")],
        [(3, "-", "train"), (1, "+", "test")],  # no liked item
        [(1, "+", "test")],
    ]
    sequences = make_sequences(users, 4)
    queries = build_queries(sequences, "test")
    assert profiles(sequences, queries, sequences.positive_weight_E).sum(axis=1).tolist() == [
        1,
        0,
        0,
    ]
    for scorer in (
        ease_scorer(sequences, ("train",), 2.0),
        item_knn_scorer(sequences, ("train",), 2),
    ):
        scores = scorer(queries)
        np.testing.assert_allclose(scores[1:, 1:] / TIE_BREAK, [[0.5, 1, 0, 0]] * 2, rtol=1e-5)


def test_a_log_without_a_like_is_served_too(make_sequences):
    sequences = make_sequences([[(1, "-", "train"), (2, "-", "test")]], 3)
    scorers, settings = item_based.item_baselines(sequences, ("train",), CONFIG)
    queries = build_queries(sequences, "test")
    for scorer in scorers.values():
        assert not scorer(queries).any()
    assert settings["item_baselines/tuned"] == 0


def test_settings_are_the_best_ones_on_validation(log):
    scorers, settings = item_based.item_baselines(log, ("train",), CONFIG)
    assert list(scorers)[:4] == ["ease", "ease_recent", "ease_signed", "item_knn"]
    queries = build_queries(log, "valid", CONFIG.valid_users)

    def value(scorer, metric):
        return evaluate_scorer(scorer, queries, log, CONFIG)[f"{metric}@5"]

    for name, metric, build, grid in (
        ("ease/l2", "ndcg_p", ease_scorer, item_based.EASE_L2),
        ("item_knn/neighbours", "ndcg_p", item_knn_scorer, item_based.NEIGHBOURS),
    ):
        values = {x: value(build(log, ("train",), x), metric) for x in grid}
        assert values[settings[name]] == max(values.values())
    l2 = settings["ease/l2"]
    values = {c: value(ease_scorer(log, ("train",), l2, c), "delta") for c in item_based.SIGNED_C}
    assert values[settings["ease_signed/c"]] == max(values.values())
    assert settings["item_baselines/tuned"] == 1


def test_baselines_are_fitted_to_the_events_that_the_model_saw(log):
    both = ("train", "valid")
    scorers, settings = item_based.item_baselines(log, both, CONFIG)
    queries = build_queries(log, "test")
    expected = ease_scorer(log, both, settings["ease/l2"])(queries)
    np.testing.assert_array_equal(scorers["ease"](queries), expected)
    expected = item_knn_scorer(log, both, settings["item_knn/neighbours"])(queries)
    np.testing.assert_allclose(scorers["item_knn"](queries), expected, atol=1e-6)


def test_large_catalogues_have_no_item_based_baselines(log, monkeypatch):
    monkeypatch.setattr(item_based, "MAX_ITEMS", 39)
    assert item_based.item_baselines(log, ("train",), CONFIG) == ({}, {})


def test_every_baseline_that_is_built_is_named_once_with_its_kind(log):
    model = random_scorer(log, 0)
    built = {
        "on_model": model_baselines(model, log, ("train",), CONFIG)[0],
        "item_based": item_based.item_baselines(log, ("train",), CONFIG)[0],
        "counts": default_baselines(log, ("train",), 0),
    }
    absent = set() if importlib.util.find_spec("implicit") else {"als"}
    assert {kind: set(scorers) for kind, scorers in built.items()} == {
        kind: set(baseline_names(kind)) - absent for kind in built
    }
    assert baseline_names() == tuple(dict.fromkeys(one.name for one in BASELINES))
