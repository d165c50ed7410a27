"""All scorers side by side: keys, ratios, counts and plain-text tables."""

import dataclasses
import json

import numpy as np
import pytest

from negflax.config import EvalConfig, measured
from negflax.evaluate import (
    build_queries,
    default_baselines,
    evaluate_scorer,
    evaluate_scorers,
    format_table,
    interval,
    paired_bootstrap,
    summary_rows,
)
from negflax.evaluate.replay import replay_queries

CONFIG = EvalConfig(ks=(3, 10), users_per_block=64, bootstrap=300)


def oracle(log):
    """Ranks what the user will like first: what no honest scorer can do."""
    scores = np.zeros((len(log.user_ids), log.catalogue.num_rows), np.float32)
    user_E = np.repeat(np.arange(len(log.user_ids)), np.diff(log.offsets_U1))
    future = log.split_E == 2
    np.add.at(scores, (user_E[future], log.item_E[future]), log.positive_weight_E[future])
    np.add.at(scores, (user_E[future], log.item_E[future]), -9 * log.negative_weight_E[future])
    return lambda block: scores[block.user_R]


@pytest.fixture
def result(log):
    baselines = default_baselines(log, ("train", "valid"), 0)
    return evaluate_scorers({"model": oracle(log), **baselines}, log, CONFIG, "test")


def test_keys_and_values(result, log):
    metrics = result.metrics
    assert metrics["hr_p@3"] == metrics["auc"] == metrics["coverage@10"] == 1
    assert metrics["hr_n@10"] == 0 and metrics["delta@3"] == 1
    for name in ("", "popularity/", "markov/", "random/"):
        for mode in ("", "kept/"):
            for metric in ("hr_p@3", "ndcg_p@10", "delta@3", "auc", "weighted_loss", "recall@10"):
                key = f"{mode}{name}{metric}"
                assert metrics[f"{key}_low"] <= metrics[key] + 1e-6, key
                assert metrics[key] <= metrics[f"{key}_high"] + 1e-6, key
                assert 0 < metrics[f"{key}_n"] <= metrics["users"]
    assert metrics["users"] == len(result.queries)
    for sign in ("positives", "negatives"):
        assert metrics[sign] + metrics[f"seen_{sign}"] == metrics[f"kept/{sign}"]
        assert metrics[f"seen_{sign}"] > 0
    json.dumps(metrics, allow_nan=False)


def test_ratio_to_a_baseline_is_the_paired_bootstrap(result):
    metrics = result.metrics
    key = "ndcg_p@10/vs_popularity"
    assert metrics[key] == pytest.approx(metrics["ndcg_p@10"] / metrics["popularity/ndcg_p@10"])
    arms = [result.values[True, name]["ndcg_p@10"].value_R for name in ("model", "popularity")]
    expected = paired_bootstrap(*arms, "mean_ratio", resamples=CONFIG.bootstrap, seed=CONFIG.seed)
    got = (metrics[key], metrics[f"{key}_low"], metrics[f"{key}_high"])
    assert got == pytest.approx(expected, rel=1e-5)
    assert "kept/hr_n@3/vs_random" in metrics


def test_plain_metrics_agree_with_the_scoreboard(result, log):
    plain = evaluate_scorer(oracle(log), build_queries(log, "test"), log, CONFIG)
    for key, value in plain.items():
        assert value == result.metrics[key]


def test_undefined_is_none(make_sequences):
    sequences = make_sequences([[(1, "+", "train"), (2, "+", "test")]] * 3, 5)
    metrics = evaluate_scorers(
        default_baselines(sequences, ("train",), 0), sequences, CONFIG, "test"
    ).metrics
    assert metrics["popularity/hr_n@3"] is None and metrics["popularity/hr_n@3_n"] == 0
    assert metrics["popularity/delta@3_low"] is None
    assert "ndcg_p@3/vs_popularity" not in metrics  # there is no model to compare


def test_successive_queries_are_clustered_by_user(log):
    config = EvalConfig(ks=(3,), users_per_block=256, bootstrap=300, state="successive")
    scorers = {"popularity": default_baselines(log, ("train",), 0)["popularity"]}
    result = evaluate_scorers(scorers, log, config, "test")
    metrics, queries = result.metrics, result.queries
    assert metrics["queries"] == len(queries) > metrics["users"]
    assert metrics["kept/positives"] + metrics["kept/negatives"] == metrics["queries"]
    one = result.values[True, "popularity"]["hr_p@3"]
    expected = interval(one.value_R, resamples=300, seed=config.seed, user_R=queries.user_R)
    got = [metrics[f"popularity/hr_p@3{end}"] for end in ("", "_low", "_high")]
    assert got == pytest.approx(expected, abs=1e-6)


def test_replay_of_randomly_shown_items(make_sequences):
    users = [
        [(4, "", "train"), (1, "+", "test"), (2, "-", "test"), (3, "+", "test")],
        [(1, "-", "test"), (2, "", "test"), (3, "+", "test")],
    ]
    sequences = make_sequences(users, 4)
    assert replay_queries(sequences, "test") is None
    random_E = np.array([0, 2, 2, 1, 2, 2, 2], np.uint8)  # user 0's item 3 was no random choice
    dislike_E = np.array([0, 1, 2, 0, 0, 0, 0], np.uint8)
    sequences = dataclasses.replace(sequences, random_E=random_E, dislike_E=dislike_E)
    scores = np.array([0, 9.0, 8, 7, 6])  # lists of two: items 1, 2, as long as they are unseen
    scorers = {"fixed": lambda block: np.tile(scores, (len(block), 1))}
    config = EvalConfig(ks=(2,), bootstrap=50)
    metrics = evaluate_scorers(scorers, sequences, config, "test").metrics
    # Listed: user 0's 1 (+) and 2 (-, the list is 2, 3); user 1's 1 (-), 2 () and 3 (+).
    assert metrics["replay/queries"] == 5
    assert metrics["fixed/replay/positive_rate@2"] == pytest.approx(2 / 5)
    assert metrics["fixed/replay/negative_rate@2"] == pytest.approx(2 / 5)
    assert metrics["fixed/replay/dislike_rate@2"] == pytest.approx(1 / 2)
    assert metrics["fixed/replay/dislike_rate@2_n"] == 2
    assert metrics["fixed/replay/positive_rate@2_low"] <= 0.4


def test_tables(result):
    rows = summary_rows(result.metrics, ["model", "random"], ["hr_p@3", "auc"])
    table = format_table(rows).splitlines()
    assert table[0].split() == ["scorer", "hr_p@3", "auc"]
    assert table[2].startswith("model") and "1.000 ±.000" in table[2]
    assert len(table) == 4
    other = format_table([{"name": "a", "n": 12345, "x": 0.5}, {"name": "bcd", "x": None}])
    assert other.splitlines()[2:] == ["a     12,345  0.5000", "bcd        –       –"]


def test_metrics_of_a_validation_are_known_from_the_config(log):
    queries = build_queries(log, "valid")
    found = evaluate_scorer(oracle(log), queries, log, CONFIG)
    assert sorted(found) == sorted(measured(CONFIG))
