"""Runs against each other."""

import dataclasses

import numpy as np
import pytest

from negflax.config import EvalConfig
from negflax.evaluate import EvaluationError, default_baselines, evaluate_scorers, paired_bootstrap
from negflax.evaluate.baselines.popularity import random_scorer
from negflax.evaluate.comparison import FAMILY, compare, figures, section

CONFIG = EvalConfig(ks=(3,), users_per_block=512, bootstrap=300)


@pytest.fixture(scope="module")
def results(log):
    """Two runs: a coin, and the same coin that has seen the answers of some users."""
    coin = random_scorer(log, 0)
    scores = coin_scores = np.tile(np.arange(41.0), (len(log.user_ids), 1))
    user_E = np.repeat(np.arange(len(log.user_ids)), np.diff(log.offsets_U1))
    known = (log.split_E == 2) & (user_E % 3 == 0)
    scores = coin_scores.copy()
    weight_E = log.positive_weight_E - log.negative_weight_E
    np.add.at(scores, (user_E[known], log.item_E[known]), 100 * weight_E[known])
    found = {}
    for name, table in (("coin", coin_scores), ("oracle", scores)):
        scorers = {
            "model": lambda block, table=table: table[block.user_R],
            "rate_adjusted": coin,
        }
        found[name] = evaluate_scorers(scorers, log, CONFIG, "test")
    return found


def test_rows_are_paired_differences(results):
    rows = compare(results, CONFIG)
    metrics = [f"{name}@3" for name in FAMILY] + ["auc", "negative_rank_change"]
    assert [row["metric"] for row in rows] == metrics * 2
    assert {row["arms"] for row in rows} == {"oracle - coin", "oracle - coin+rate"}
    by_name = {row["metric"]: row for row in rows[: len(metrics)]}
    for metric in ("ndcg_p@3", "coverage@3", "negative_f1@3"):
        a, b = (results[name].values[True, "model"][metric] for name in ("coin", "oracle"))
        expected = paired_bootstrap(
            b.value_R,
            a.value_R,
            resamples=300,
            seed=CONFIG.seed,
            weights_R=(b.weight_R, a.weight_R),
        )
        row = by_name[metric]
        assert (row["difference"], row["low"], row["high"]) == pytest.approx(expected, abs=1e-6)
    assert by_name["negative_rank_change"]["low"] > 0 > by_name["hr_n@3"]["high"]
    assert all(row["p"] <= row["p_holm"] <= 1 for row in rows)
    assert by_name["hr_p@3"]["p_holm"] == pytest.approx(len(rows) * 2 / 301)  # the smallest p


def test_a_run_does_not_differ_from_itself(results):
    rows = compare({"a": results["coin"], "b": results["coin"]}, CONFIG)
    same = [row for row in rows if row["arms"] == "b - a"]
    assert all(row["difference"] == row["low"] == row["high"] == 0 for row in same)
    assert all(row["p_holm"] == 1 for row in same)


def test_figures_and_table(results):
    rows = compare(results, CONFIG)
    flat = figures(rows)
    assert flat["oracle - coin/auc_low"] <= flat["oracle - coin/auc"]
    assert {"oracle - coin/hr_n@3_p", "oracle - coin+rate/hr_n@3_p_holm"} <= set(flat)
    assert section(rows).rows is rows and "Holm" in section(rows).note


def test_runs_that_cannot_be_compared(results, log):
    with pytest.raises(EvaluationError, match="needs at least two runs, got coin"):
        compare({"coin": results["coin"]}, CONFIG)
    scorers = {"model": default_baselines(log, ("train",), 0)["random"]}
    config = dataclasses.replace(CONFIG, bootstrap=2)
    valid = evaluate_scorers(scorers, log, config, "valid")
    with pytest.raises(EvaluationError, match="coin and other have different queries"):
        compare({"coin": results["coin"], "other": valid}, CONFIG)
