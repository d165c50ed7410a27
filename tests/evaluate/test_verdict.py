"""The verdict: from figures to an outcome and its sentences."""

import pytest

from negflax.evaluate.report.verdict import history_warning, judge


def figures(model=0.12, low=1.05, high=1.2, best="ease", **more):
    """A model against two baselines, of which `best` is the better one."""
    other = "popularity" if best != "popularity" else "random"
    return {
        "queries": 100,
        "users_without_history": 3,
        "ndcg_p@10": model,
        "ndcg_p@10_n": 1234,
        f"{best}/ndcg_p@10": 0.11,
        f"{other}/ndcg_p@10": 0.05,
        "rate_adjusted/ndcg_p@10": 0.5,  # built on the model: no yardstick for it
        f"ndcg_p@10/vs_{best}_low": low,
        f"ndcg_p@10/vs_{best}_high": high,
        f"ndcg_p@10/vs_{other}_low": 1.5,
        f"ndcg_p@10/vs_{other}_high": 2.5,
    } | more


@pytest.mark.parametrize(
    ("low", "high", "outcome", "words"),
    [
        (1.05, 1.2, "ahead", "is ahead of the best baseline, ease"),
        (0.8, 0.95, "behind", "is behind the best baseline, ease"),
        (0.95, 1.05, "level", "cannot be told apart from the best baseline, ease"),
        (1.0, 1.1, "level", "cannot be told apart"),
        (None, None, "level", "cannot be told apart"),
    ],
)
def test_the_interval_of_the_ratio_decides(low, high, outcome, words):
    found = judge(figures(low=low, high=high), 10)
    assert (found.outcome, found.baseline, found.metric) == (outcome, "ease", "ndcg_p@10")
    assert words in found.text and ".120 against .110" in found.text
    assert "1,234 queries" in found.text


def test_percentages_are_those_of_the_interval():
    assert "−20 % to −5 % (95 % interval)" in judge(figures(low=0.8, high=0.95), 10).text


@pytest.mark.parametrize(
    ("best", "words"),
    [
        ("ease", "item-based linear model does better"),
        ("item_knn", "docs/your_own_logs.md says when a recurrent model is the wrong tool"),
        ("markov_5", "The last items predict the next one best"),
        ("popularity", "little beyond popularity"),
    ],
)
def test_advice_follows_the_winner(best, words):
    assert words in judge(figures(best=best, low=0.8, high=0.9), 10).text


def test_advice_about_negatives_needs_negatives():
    assert "config.loss.omega" not in judge(figures(), 10).text
    assert "config.loss.omega" in judge(figures(**{"hr_n@10": 0.1}), 10).text


def test_disliked_items_are_named_beside_liked_ones():
    more = {"hr_n@10": 0.2, "hr_p@10": 0.4, "ease/hr_n@10": 0.3, "ease/hr_p@10": 0.5}
    for low, high, word in ((0.6, 0.8, "fewer"), (1.1, 1.2, "more"), (0.9, 1.1, "about as many")):
        ends = {"hr_n@10/vs_ease_low": low, "hr_n@10/vs_ease_high": high}
        text = judge(figures(**more, **ends), 10).text
        assert f"hold {word} disliked items: hr_n@10 .200 against .300" in text
        assert "at hr_p@10 .400 against .500" in text
    assert "disliked items:" not in judge(figures(), 10).text


def test_a_verdict_without_results_to_compare_is_undefined():
    found = judge(figures(model=None), 10)
    assert found.outcome == "undefined" and "no query has a positive" in found.text
    assert judge({"ndcg_p@10": 0.1}, 10).outcome == "undefined"


def test_most_queries_without_a_history_are_a_warning():
    metrics = figures(queries=77, users_without_history=60)
    assert "60 of 77 test queries have no history" in judge(metrics, 10).text
    assert "config.data.split='user_fraction'" in history_warning(metrics)
    assert not history_warning(figures(queries=77, users_without_history=38))
