"""Rules, their precedence and null feedback (SPEC section 5.7)."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.config import ConfigError, LabelConfig
from negflax.data import Rule, label_weights, parse_rule, validate


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("like", Rule("like")),
        (" dislike : 3 ", Rule("dislike", weight=3)),
        ("rating >= 4", Rule("rating", ">=", 4)),
        ("rating<2.5:.5", Rule("rating", "<", 2.5, 0.5)),
        ("reward == -1e2", Rule("reward", "==", -100)),
        ("skip: 0", Rule("skip", weight=0)),
    ],
)
def test_parse_rule(text, rule):
    assert parse_rule(text) == rule


@pytest.mark.parametrize("text", ["", "rating >=", ">= 4", "rating = 4", "like:", "like: much"])
def test_bad_rules_show_an_example(text):
    with pytest.raises(ConfigError, match="`rating >= 4`"):
        parse_rule(text)


def test_negative_weight_is_refused():
    with pytest.raises(ConfigError, match=r"labels\.negative.*`dislike: 2`"):
        parse_rule("dislike: -2")


def weights(positive, negative, **signals):
    num = len(next(iter(signals.values())))
    table = pa.table({"user_id": [1] * num, "item_id": range(num), "pos": range(num), **signals})
    table, _ = validate(table, "log")
    r, w = label_weights(table, LabelConfig(positive=positive, negative=negative))
    assert r.dtype == w.dtype == np.float32
    return r.tolist(), w.tolist()


def test_precedence():
    signals = {
        "like": [True, True, True, None, False],
        "dislike": [True, None, False, None, None],
        "skip": [True, True, None, None, True],
    }
    assert weights(("like: 2",), ("dislike: 3", "skip"), **signals) == (
        [0, 2, 2, 0, 0],
        [3, 0, 0, 0, 1],
    )
    dismissed = {"like": [True], "dismissal": [True]}
    assert weights(("like",), ("dismissal",), **dismissed) == ([0], [1])


def test_largest_weight_counts_and_weight_0_is_off():
    signals = {"like": [True, True], "long_view": [True, False], "dislike": [True, True]}
    positive = ("long_view: 5", "like: 2")
    assert weights(positive, ("dislike: 0",), **signals) == ([5, 2], [0, 0])
    assert weights(positive, ("not_there: 0",), **signals) == ([5, 2], [0, 0])


def test_an_explicit_negative_keeps_the_largest_negative_weight():
    assert weights(("like",), ("dislike", "skip: 4"), like=[True], dislike=[True], skip=[True]) == (
        [0],
        [4],
    )


def test_numbers_compare_and_null_never_matches():
    rating = [5.0, 4.0, 3.0, 2.0, None]
    assert weights(("rating >= 4",), ("rating <= 2: .5",), rating=rating) == (
        [1, 1, 0, 0, 0],
        [0, 0, 0, 0.5, 0],
    )
    for op in ("<", "<=", ">", ">=", "=="):
        assert weights((f"rating {op} 0",), (), rating=pa.array([None], pa.float64()))[0] == [0]
    assert weights(("like == 0",), (), like=[True, False, None])[0] == [0, 1, 0]


def test_unknown_signal_lists_the_log_s_signals():
    with pytest.raises(ConfigError, match="`lik`; it has: like, rating"):
        weights(("lik",), (), like=[True], rating=[1.0])
    with pytest.raises(ConfigError, match="no signal `item_id`"):
        weights(("item_id",), (), like=[True])


def test_a_number_wants_a_comparison():
    with pytest.raises(ConfigError, match="`rating >= 4`"):
        weights(("rating",), (), rating=[1.0])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(*[st.sampled_from([None, False, True])] * 4), min_size=1, max_size=12))
def test_labels_equal_a_plain_loop(rows):
    names = ("like", "long_view", "dislike", "skip")
    columns = {name: pa.array([row[i] for row in rows], pa.bool_()) for i, name in enumerate(names)}
    result = weights(("like: 2", "long_view"), ("dislike: 3", "skip"), **columns)
    expected = ([], [])
    for like, long_view, dislike, skip in rows:
        r = 2 if like else 1 if long_view else 0
        w = 3 if dislike else 1 if skip else 0
        expected[0].append(0 if dislike else r)
        expected[1].append(0 if r and not dislike else w)
    assert result == expected
