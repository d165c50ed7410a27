"""All scorers side by side: keys, ratios, counts and plain-text tables."""

import json

import numpy as np
import pytest

from negflax.config import EvalConfig
from negflax.evaluate import (
    build_requests,
    default_floors,
    evaluate_scorer,
    evaluate_scorers,
    format_table,
    paired_bootstrap,
    summary_rows,
)

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
    floors = default_floors(log, ("train", "valid"), 0)
    return evaluate_scorers({"model": oracle(log), **floors}, log, CONFIG, "test")


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
    assert metrics["users"] == len(result.requests)
    for sign in ("positives", "negatives"):
        assert metrics[sign] + metrics[f"seen_{sign}"] == metrics[f"kept/{sign}"]
        assert metrics[f"seen_{sign}"] > 0
    json.dumps(metrics, allow_nan=False)


def test_ratio_to_a_floor_is_the_paired_bootstrap(result):
    metrics = result.metrics
    key = "ndcg_p@10/vs_popularity"
    assert metrics[key] == pytest.approx(metrics["ndcg_p@10"] / metrics["popularity/ndcg_p@10"])
    arms = [result.values[True, name]["ndcg_p@10"].value_R for name in ("model", "popularity")]
    expected = paired_bootstrap(*arms, "mean_ratio", resamples=CONFIG.bootstrap, seed=CONFIG.seed)
    got = (metrics[key], metrics[f"{key}_low"], metrics[f"{key}_high"])
    assert got == pytest.approx(expected, rel=1e-5)
    assert "kept/hr_n@3/vs_random" in metrics


def test_plain_metrics_agree_with_the_scoreboard(result, log):
    plain = evaluate_scorer(oracle(log), build_requests(log, "test"), log, CONFIG)
    for key, value in plain.items():
        assert value == result.metrics[key]


def test_undefined_is_none(make_sequences):
    sequences = make_sequences([[(1, "+", "train"), (2, "+", "test")]] * 3, 5)
    metrics = evaluate_scorers(
        default_floors(sequences, ("train",), 0), sequences, CONFIG, "test"
    ).metrics
    assert metrics["popularity/hr_n@3"] is None and metrics["popularity/hr_n@3_n"] == 0
    assert metrics["popularity/delta@3_low"] is None
    assert "ndcg_p@3/vs_popularity" not in metrics  # there is no model to compare


def test_tables(result):
    rows = summary_rows(result.metrics, ["model", "random"], ["hr_p@3", "auc"])
    table = format_table(rows).splitlines()
    assert table[0].split() == ["scorer", "hr_p@3", "auc"]
    assert table[2].startswith("model") and "1.0000 [1.0000, 1.0000]" in table[2]
    assert len(table) == 4
    other = format_table([{"name": "a", "n": 12345, "x": 0.5}, {"name": "bcd", "x": None}])
    assert other.splitlines()[2:] == ["a     12,345  0.5000", "bcd        –       –"]
