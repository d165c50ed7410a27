"""Figures of a data set and warnings about it, with a small log for each finding."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.config import Config, DataConfig, LabelConfig
from negflax.data import DataError, RawData, label_weights, validate
from negflax.data.inspect.figures import inspect_data, open_inspected
from negflax.data.inspect.findings import check_data

USERS, EVENTS, ITEMS = 400, 12, 150


def clean(seed=0):
    """Columns of a log without fault: every user has 12 events, the last two of them held out."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(USERS), EVENTS)
    place = np.tile(np.arange(EVENTS), USERS)
    num = len(user)
    like = rng.random(num) < 0.4
    return {
        "user_id": user,
        "item_id": rng.integers(0, ITEMS, num),
        "timestamp_ms": 10**12 + place * 10**6 + rng.permutation(num),
        "split": np.array(["train"] * 10 + ["valid", "test"])[place],
        "like": like,
        "dislike": ~like & (rng.random(num) < 0.7),
        "dwell_ms": rng.integers(0, 60_000, num),
        "duration_ms": rng.integers(5_000, 90_000, num),
    }


def looked_at(columns, items=None, **labels):
    raw = RawData(pa.table(columns), None if items is None else pa.table(items), "log")
    config = Config(
        data=DataConfig(split="column"),
        labels=LabelConfig(**({"positive": ("like",), "negative": ("dislike",)} | labels)),
    )
    data = open_inspected(raw, config)
    figures = inspect_data(data)
    return figures, [f"{f.about}: {f.what}" for f in check_data(raw, data, figures)]


def warned(columns, about, items=None, **labels):
    """Whether the expected warning is given, and no other."""
    _, findings = looked_at(columns, items, **labels)
    assert any(about in finding for finding in findings), findings
    return len(findings) == 1


def test_a_clean_log_has_no_warning():
    figures, findings = looked_at(clean())
    assert not findings
    columns = clean()
    assert figures["events"] == USERS * EVENTS and figures["users"] == USERS
    assert [row["events"] for row in figures["splits"]] == [USERS * 10, USERS, USERS]
    assert sum(row["positives"] for row in figures["splits"]) == columns["like"].sum()
    assert sum(row["negatives"] for row in figures["splits"]) == columns["dislike"].sum()
    assert [row["share"] for row in figures["rules"]] == pytest.approx(
        [columns["like"].mean(), columns["dislike"].mean()]
    )
    assert sum(row[k] for row in figures["dwell"] for k in ("positive", "negative", "none")) == (
        USERS * EVENTS
    )
    short = columns["duration_ms"] < 7000
    ratio = (columns["dwell_ms"] / columns["duration_ms"])[short]
    assert figures["watch_ratio"][0]["p50"] == pytest.approx(np.median(ratio))
    assert figures["density"]["events_per_user_median"] == EVENTS


def test_buckets_of_the_config_are_those_of_the_table():
    figures, _ = looked_at(
        clean(), negative=("skip",), skip=("0-30: watch_ratio < .3", "30-: dwell_s < 5")
    )
    assert [(row["from_s"], row["to_s"]) for row in figures["watch_ratio"]] == [(0, 30), (30, None)]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(*[st.sampled_from([None, False, True])] * 3), min_size=3, max_size=12))
def test_conflicts_are_those_that_the_labels_resolved(rows):
    like, dislike, skip = (pa.array([row[i] for row in rows], pa.bool_()) for i in range(3))
    num = len(rows)
    columns = {
        "user_id": [1] * num,
        "item_id": [7] * num,
        "pos": range(num),
        "like": like,
        "split": ["train"] * (num - 2) + ["valid", "test"],
        "dislike": dislike,
        "skip": skip,
    }
    figures, _ = looked_at(columns, negative=("dislike", "skip"))
    positive_won = sum(bool(a and c and not b) for a, b, c in rows)
    explicit = sum(bool(a and b) for a, b, _ in rows)
    assert figures["conflicts"] == {
        "explicit_negative_won": explicit,
        "later_negative_won": 0,
        "positive_won": positive_won,
    }
    labels = LabelConfig(positive=("like",), negative=("dislike", "skip"))
    r, w = label_weights(validate(pa.table(columns), "log")[0], labels)
    assert sum(row["positives"] for row in figures["splits"]) == np.count_nonzero(r)
    assert sum(row["negatives"] for row in figures["splits"]) == np.count_nonzero(w)


def test_events_of_one_moment_on_both_sides_of_a_boundary():
    columns = clean()
    columns["timestamp_ms"][10 * 1 :: EVENTS] = columns["timestamp_ms"][9::EVENTS]
    columns["pos"] = np.tile(np.arange(EVENTS), USERS)
    assert not warned(columns, f"{USERS} users have simultaneous events in two different periods")


def test_overlapping_periods():
    columns = clean()
    columns["timestamp_ms"][-EVENTS:] += 10**9  # one user's training is later than others' test
    assert not warned(columns, "0.25% of the training events are as late as the first test")


def test_leave_one_out_trains_on_the_future():
    raw = RawData(pa.table(clean()), None, "log")
    labels = LabelConfig(positive=("like",), negative=("dislike",))
    config = Config(data=DataConfig(split="leave_one_out"), labels=labels)
    data = open_inspected(raw, config)
    (finding,) = check_data(raw, data, inspect_data(data))
    assert finding.what.startswith("leave-one-out: training has events that are later")


def test_item_features_that_know_the_test_period():
    columns = clean()
    rng = np.random.default_rng(1)
    test = columns["split"] == "test"
    future = np.bincount(columns["item_id"][test], minlength=ITEMS)
    past = np.bincount(columns["item_id"][columns["split"] == "train"], minlength=ITEMS)
    items = {"item_id": np.arange(ITEMS), "age": rng.random(ITEMS), "train_count": past}
    assert not looked_at(columns, items)[1]
    items["month_count"] = future + past
    assert warned(columns, "item table, `month_count`: predicts the test period", items)
    columns["item_ctr"] = (future + 0.5)[columns["item_id"]]
    assert warned(columns, "`item_ctr`, a feature of the item: predicts the test period")


def test_late_feedback():
    columns = clean()
    columns["dislike_at_ms"] = columns["timestamp_ms"] + 10
    assert not looked_at(columns)[1]
    columns["dislike_at_ms"][0] += 5 * 10**6  # after the next event, before the test period
    assert warned(columns, "`dislike_at_ms`: 1 events got this feedback after the user's next")
    columns["dislike_at_ms"][0] += 10**9
    assert not warned(columns, "1 training events got this feedback in the test period")


def test_order_and_units_of_times():
    columns = clean()
    columns["timestamp_ms"][1] = columns["timestamp_ms"][0]
    assert warned(columns, "1 events (0.0%) have the same time as the event")
    columns = clean()
    columns["timestamp_ms"] = columns["timestamp_ms"] // 1000
    assert warned(columns, "these look like seconds")
    columns = {name: values[::-1] for name, values in clean().items()}
    assert warned(columns, "events came before an earlier one of their user")
    columns = clean()
    columns["pos"] = np.tile([1, 0, *range(2, EVENTS)], USERS)
    assert not warned(columns, f"in the order of `pos`, {USERS} events are earlier")
    columns = clean()
    columns["split"][3] = "test"
    assert not warned(columns, "7 events came after an event of a later period")


def test_copies():
    columns = {name: np.insert(values, 1, values[0]) for name, values in clean().items()}
    assert warned(columns, "1 events were exact copies")
    columns["like"][1] = ~columns["like"][1]
    assert not warned(columns, "1 events have the user, the item and the time of another")
    columns = clean()
    columns = {name: np.append(values, values[:EVENTS]) for name, values in columns.items()}
    columns["user_id"][-EVENTS:] = USERS
    assert warned(columns, "1 users have the same history as another")
    columns["split"][-EVENTS:] = ["train"] * 8 + ["test"] * 4  # copied across the boundary
    assert not warned(columns, "test events have the item and the time of a training event")


def test_signals_that_say_nothing():
    columns = clean()
    num = len(columns["like"])
    columns["like"] = pa.array(columns["like"])
    columns["share"] = pa.array([None] * num, pa.bool_())
    assert warned(columns, "signal `share`: is null in every event")
    columns["share"] = np.ones(num, bool)
    assert warned(columns, "signal `share`: is 1 in every event where it is known")
    columns["share"] = pa.array(np.arange(num) % 5 == 0, mask=columns["split"] != "test")
    assert warned(columns, "signal `share`: is null in 100% of the training and 0% of the test")
    columns["share"] = pa.array(np.arange(num) % 40 == 0, mask=np.arange(num) % 20 > 0)
    assert warned(columns, "signal `share`: is null in 95.0% of the events")


def test_too_few_labels():
    columns = clean()
    assert not warned(
        columns,
        "rule `dwell_ms > 1e9`: matches no event of the training period",
        negative=("dislike", "dwell_ms > 1e9"),
    )
    columns["dislike"][10 * EVENTS :] = False
    assert warned(columns, "users have a negative in the test period")


def test_test_items_that_are_not_in_the_catalogue():
    columns = clean()
    test = np.flatnonzero(columns["split"] == "test")
    columns["item_id"][test[: USERS // 4]] = 1000 + np.arange(USERS // 4)
    assert warned(columns, "catalogue: 25% of the test events are on items")


def test_ids_may_be_text_in_one_table_only():
    columns = clean()
    items = {"item_id": [str(i) for i in range(ITEMS)], "duration_ms": [9000] * ITEMS}
    del columns["duration_ms"]
    figures, findings = looked_at(columns, items, negative=("watch_ratio < .1",))
    assert figures["watch_ratio"][1]["p50"] is not None
    assert all("constant" not in f for f in findings)


def test_an_empty_log_is_an_error():
    columns = {name: values[:0] for name, values in clean().items()}
    with pytest.raises(DataError, match="the table has no rows"):
        looked_at(columns)


def test_findings_name_a_remedy():
    columns = clean()
    columns["share"] = np.ones(len(columns["like"]), bool)
    raw = RawData(pa.table(columns), None, "log")
    labels = LabelConfig(positive=("like",), negative=("dislike",))
    config = Config(data=DataConfig(split="column"), labels=labels)
    data = open_inspected(raw, dataclasses.replace(config, name="x"))
    for finding in check_data(raw, data, inspect_data(data)):
        assert finding.about and finding.what and finding.remedy
