"""Rules, their precedence and null feedback (docs/method.md §5.7)."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.config import ConfigError, LabelConfig
from negflax.data import DataError, label_weights, validate, validate_items


def weights(positive, negative, items=None, config=None, **signals):
    num = len(next(iter(signals.values())))
    table = pa.table({"user_id": [1] * num, "item_id": range(num), "pos": range(num), **signals})
    table, _ = validate(table, "log")
    items = None if items is None else validate_items(pa.table(items), "items")
    labels = LabelConfig(positive=positive, negative=negative, **(config or {}))
    r, w = label_weights(table, labels, items)
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


def test_an_explicit_negative_has_the_largest_negative_weight():
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
    with pytest.raises(ConfigError, match=r"`lik`; it has: like, rating \(did you mean `like`\?\)"):
        weights(("lik",), (), like=[True], rating=[1.0])
    with pytest.raises(ConfigError, match="did you mean `watch_ratio`"):
        weights((), ("watch_ration < .2",), dwell_ms=[1], duration_ms=[2])
    with pytest.raises(ConfigError, match="no signal `item_id`"):
        weights(("item_id",), (), like=[True])


def test_a_rule_on_a_number_needs_a_comparison():
    with pytest.raises(ConfigError, match="`rating >= 4`"):
        weights(("rating",), (), rating=[1.0])


def test_conditions_joined_by_and():
    signals = {"skip": [True, True, None, True], "dwell_ms": [500, 4000, 500, None]}
    expected = [3, 1, 0, 1]
    assert weights((), ("skip", "skip and dwell_s < 1: 3"), **signals) == ([0] * 4, expected)
    assert weights((), ("skip", "skip and dwell_ms < 1e3: 3"), **signals)[1] == expected


def test_reasons_weigh_dismissals():
    signals = {
        "like": [True] * 5,
        "dismissal": [True, True, True, None, False],
        "reason": ["spam", "seen it", None, "spam", "spam"],
    }
    rules = ("dismissal: .5", "dismissal and reason == spam: 5")
    assert weights(("like",), rules, **signals) == ([0, 0, 0, 1, 1], [5, 0.5, 0.5, 0, 0])
    quoted = ("dismissal and reason == 'seen it': 2",)
    assert weights((), quoted, **signals)[1] == [0, 2, 0, 0, 0]


def test_explicit_signals_are_named_in_the_config():
    signals = {"like": [True, True], "report": [True, False], "skip": [True, True]}
    rules = (("like",), ("report: 4", "skip"))
    assert weights(*rules, **signals) == ([1, 1], [0, 0])
    assert weights(*rules, config={"explicit": ("report",)}, **signals) == ([0, 1], [4, 0])


def test_the_later_feedback_wins():
    signals = {
        "timestamp_ms": [1000] * 6,
        "bought": [True] * 6,
        "returned": [True, True, True, True, False, True],
        "returned_at_ms": [5000, 500, None, 1000, 9000, 5000],
        "like": [False] * 5 + [True],
        "like_at_ms": [None] * 5 + [6000],
    }
    r, w = weights(("bought", "like"), ("returned: 2",), **signals)
    # later, earlier, at the event (as the purchase), at the same time, no return, liked afterwards
    assert r == [0, 1, 1, 1, 1, 1]
    assert w == [2, 0, 0, 0, 0, 0]


def test_without_event_times_nothing_is_known_to_be_later():
    signals = {"bought": [True], "returned": [True], "returned_at_ms": [5000]}
    assert weights(("bought",), ("returned",), **signals) == ([1], [0])


SKIPS = ("0-7: dwell_s < 1", "7-18: watch_ratio < .2 and dwell_s < 3", "18-: dwell_s < 3")


def test_skips_by_duration():
    log = {
        "duration_ms": [6000, 6999, 7000, 10_000, 17_999, 18_000, 10**6, None, 0],
        "dwell_ms": [999, 1000, 1399, 2000, 2999, 2999, 2999, 0, 0],
    }
    expected = [1, 0, 1, 0, 1, 1, 1, 0, 1]
    assert weights((), ("skip",), config={"skip": SKIPS}, **log)[1] == expected
    # the definition replaces the log's own column, and what is no known skip is no known "no"
    log["skip"] = [False] * 9
    assert weights((), ("skip",), config={"skip": SKIPS}, **log)[1] == expected
    watched = [0, 1, 0, 1, 0, 0, 0, 0, 0]
    assert weights(("skip == 0",), (), config={"skip": SKIPS}, **log)[0] == watched
    assert weights((), ("skip",), config={"skip": SKIPS[1:2]}, **log)[1] == [
        0,
        0,
        1,
        0,
        1,
        0,
        0,
        0,
        0,
    ]


def test_a_skip_is_unknown_where_its_bucket_asks_for_the_unknown():
    log = {"duration_ms": [9000, 9000, None], "dwell_ms": [None, 8000, 8000]}
    assert weights(("skip == 0",), ("skip",), config={"skip": SKIPS}, **log) == ([0, 1, 0], [0] * 3)


def test_durations_may_be_in_the_item_table():
    log = {"dwell_ms": [999, 999, 999], "like": [False] * 3}
    items = {"item_id": [2, 0], "duration_ms": [1500, 60_000]}  # item 1 is not listed
    rules = ((), ("watch_ratio < .5",))
    assert weights(*rules, items=items, **log)[1] == [1, 0, 0]
    log["duration_ms"] = [1000, 10_000, None]  # what the event says wins
    assert weights(*rules, items=items, **log)[1] == [0, 1, 0]


def test_a_column_named_like_a_computed_signal_is_kept():
    log = {"dwell_ms": [10], "duration_ms": [100], "watch_ratio": [0.9]}
    assert weights(("watch_ratio >= .9",), (), **log)[0] == [1]


def test_propensities():
    log = {"like": [True, True, False, None], "skip": [False, False, True, None]}
    log["propensity"] = [0.5, 0.001, 1.0, None]  # the last event has no label and needs none
    rules = (("like: 2",), ("skip",))
    assert weights(*rules, **log) == ([2, 2, 0, 0], [0, 0, 1, 0])
    assert weights(*rules, config={"propensity_cap": 20.0}, **log) == ([4, 40, 0, 0], [0, 0, 1, 0])
    log["propensity"] = [0.5, 0.0, 1.0, None]
    assert weights(*rules, config={"propensity_cap": 1.0}, **log) == ([2, 2, 0, 0], [0, 0, 1, 0])


@pytest.mark.parametrize(("value", "said"), [(None, "None"), (1.5, "1.5")])
def test_bad_propensities(value, said):
    log = {"like": [True, True], "propensity": [1.0, value]}
    with pytest.raises(DataError, match=f"`propensity`, user 1, item 1: {said}.*1 labelled"):
        weights(("like",), (), config={"propensity_cap": 5.0}, **log)
    with pytest.raises(ConfigError, match="no column `propensity`"):
        weights(("like",), (), config={"propensity_cap": 5.0}, like=[True])


def test_bad_values_never_reach_a_rule():
    rules = {"positive": (), "negative": ("watch_ratio < .2",)}
    with pytest.raises(DataError, match="`dwell_ms`, row 1: nan is not finite"):
        weights(**rules, dwell_ms=[1.0, float("nan")], duration_ms=[5, 5])
    with pytest.raises(DataError, match="`duration_ms`, row 0: -5 is negative"):
        weights(**rules, dwell_ms=[1, 1], duration_ms=[-5, 5])
    with pytest.raises(DataError, match="`reason`.*write words"):
        weights(**rules, reason=[1], dwell_ms=[1], duration_ms=[1])
    events = pa.table({"user_id": [], "item_id": [], "pos": [], "like": pa.array([], pa.bool_())})
    r, w = label_weights(events, LabelConfig(positive=("like",), negative=()))
    assert len(r) == len(w) == 0


def test_text_and_numbers_are_not_confused():
    with pytest.raises(ConfigError, match="`reason` is text; compare it, as in `reason == spam`"):
        weights((), ("reason",), reason=["spam"])
    with pytest.raises(ConfigError, match="`like` is not text"):
        weights(("like == yes",), (), like=[True])
    with pytest.raises(ConfigError, match="cannot be defined by itself"):
        weights((), ("skip",), config={"skip": ("0-: skip",)}, dwell_ms=[1], duration_ms=[1])


# The rules against a loop over events that follows the documentation word by word.

OPS = {
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
}
BITS, NUMBERS = ("like", "dislike", "returned"), ("rating", "dwell_s", "watch_ratio", "duration_s")


def condition(signals):
    bit = st.tuples(st.sampled_from(BITS), st.none(), st.none())
    number = st.tuples(
        st.sampled_from(signals),
        st.sampled_from(sorted(OPS)),
        st.sampled_from([0.0, 0.2, 0.5, 1.0, 2.0, 3.5]),
    )
    return st.one_of(
        bit, number, st.tuples(st.just("reason"), st.just("=="), st.sampled_from("ab"))
    )


rules = st.lists(
    st.tuples(
        st.lists(condition((*NUMBERS, "skip")), min_size=1, max_size=3),
        st.sampled_from([0, 0.5, 1, 3]),
    ),
    max_size=4,
)
buckets = st.lists(st.lists(condition(NUMBERS), min_size=1, max_size=2), min_size=1, max_size=3)
some = lambda *values: st.sampled_from([None, *values])  # noqa: E731
event = st.fixed_dictionaries(
    {
        "like": some(False, True),
        "dislike": some(False, True),
        "returned": some(False, True),
        "rating": some(0.0, 1.0, 3.5),
        "reason": some("a", "b"),
        "dwell_ms": some(0, 1000, 3500),
        "duration_ms": some(0, 1000, 2000, 5000),
        "timestamp_ms": some(100, 200),
        "returned_at_ms": some(50, 150, 250),
        "propensity": st.sampled_from([0.01, 0.2, 1.0]),
    }
)


def text(conditions):
    return " and ".join(" ".join(str(x) for x in c if x is not None) for c in conditions)


def values_of(event, skips):
    """Every signal of one event; None is unknown."""
    dwell, duration = event["dwell_ms"], event["duration_ms"]
    values = dict(event)
    values["dwell_s"] = None if dwell is None else dwell / 1000
    values["duration_s"] = None if duration is None else duration / 1000
    values["watch_ratio"] = dwell / duration if duration and dwell is not None else None
    values["skip"] = None
    for low, conditions in enumerate(skips):
        last = low == len(skips) - 1
        seconds = values["duration_s"]
        if seconds is not None and low <= seconds and (last or seconds < low + 1):
            if all(values[name] is not None for name, _, _ in conditions):
                values["skip"] = float(hold(conditions, values))
    return values


def hold(conditions, values):
    for name, op, value in conditions:
        if values[name] is None:
            return False
        if op is None and values[name] != 1 or op and not OPS[op](values[name], value):
            return False
    return True


def label(values, positive, negative):
    def newest(found):
        times = [values.get(f"{c[0][0]}_at_ms") for c, _ in found]
        times = [values["timestamp_ms"] if t is None else t for t in times]
        return max((t for t in times if t is not None), default=None)

    liked, disliked = (
        [(c, weight) for c, weight in rules if weight and hold(c, values)]
        for rules in (positive, negative)
    )
    scale = 1 / max(values["propensity"], 1 / 4)
    r, w = (max((weight for _, weight in found), default=0) * scale for found in (liked, disliked))
    if liked and disliked:
        explicit = any(c[0][0] == "dislike" for c, _ in disliked)
        times = newest(liked), newest(disliked)
        later = None not in times and times[1] > times[0]
        return (0, w) if explicit or later else (r, 0)
    return r, w


@settings(deadline=None, max_examples=150)
@given(st.lists(event, min_size=1, max_size=8), rules, rules, buckets)
def test_labels_equal_a_loop_over_events(events, positive, negative, skips):
    kinds = {
        "like": pa.bool_(),
        "dislike": pa.bool_(),
        "returned": pa.bool_(),
        "rating": pa.float64(),
        "reason": pa.string(),
        "propensity": pa.float64(),
    }
    columns = {k: pa.array([e[k] for e in events], kinds.get(k, pa.int64())) for k in events[0]}
    config = {
        "skip": tuple(
            f"{i}-{'' if i == len(skips) - 1 else i + 1}: {text(c)}" for i, c in enumerate(skips)
        ),
        "propensity_cap": 4.0,
    }
    positive_texts, negative_texts = (
        tuple(f"{text(c)}: {weight}" for c, weight in one) for one in (positive, negative)
    )
    found = weights(positive_texts, negative_texts, config=config, **columns)
    expected = [label(values_of(e, skips), positive, negative) for e in events]
    np.testing.assert_allclose(np.array(found).T, expected, rtol=1e-6)
