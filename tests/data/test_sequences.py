"""Event log → arrays: vocabulary, counts, features, and no look ahead."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from negflax.data import DataError, RawData, build_sequences, history_batch


def raw(table, items=None):
    return RawData(table, items, "log")


SMALL = pa.table(
    {
        "user_id": ["b", "b", "b", "b", "a", "a", "a"],
        "item_id": [7, 5, 5, 8, 5, 6, 5],
        "pos": [0, 1, 2, 3, 0, 1, 2],
        "timestamp_ms": [0, 1000, None, 9000, 0, 5000, 7000],
        "split": ["train", "train", "valid", "test", "train", "test", "test"],
        "long_view": [True, False, None, True, True, True, False],
        "dislike": [None, True, False, None, False, None, True],
        "dismissal": [True, None, False, None, None, None, False],
        "dwell_ms": [1000, 2000, None, 0, 10, 10, 10],
        "duration_ms": [1000, 0, 1000, 1000, None, None, None],
        "surface": [0, 1, None, 3, 4, 5, 6],
    }
)


def test_a_small_log(make_config):
    s = build_sequences(raw(SMALL), make_config(negative=("dislike",)))
    assert s.user_ids.tolist() == ["a", "b"]
    assert s.catalogue.item_ids.tolist() == [5, 7]  # 6 and 8 are seen in the test period only
    assert s.catalogue.train_count_V.tolist() == [0, 2, 1]
    assert s.offsets_U1.tolist() == [0, 2, 5]
    assert s.item_E.tolist() == [1, 1, 2, 1, 1]
    assert s.split_E.tolist() == [0, 2, 0, 0, 1]
    assert s.dislike_E.tolist() == [1, 2, 0, 2, 1]
    assert s.dismissal_E.tolist() == [0, 1, 2, 0, 1]
    assert s.positive_weight_E.tolist() == [1, 0, 1, 0, 0]
    assert s.negative_weight_E.tolist() == [0, 1, 0, 1, 0]
    assert s.time_E.tolist() == [0, 7000, 0, 1000, -1]
    assert s.surface_E.tolist() == [5, 7, 1, 2, 0]
    assert (s.watch_ratio_E > 0).tolist() == [False, False, True, False, False]
    assert (s.dwell_E > 0).tolist() == [True, True, True, True, False]
    # a's gap runs over the dropped event, from the event that is kept
    assert (s.gap_E > 0).tolist() == [False, True, False, True, False]
    report = json.loads(json.dumps(s.report))
    assert report["unknown_items"]["test"] == {"events": 2, "positives": 2, "negatives": 0}
    assert report["splits"]["train"] == {"events": 3, "positives": 2, "negatives": 1}
    assert (report["users"], report["items"], report["events"]) == (2, 2, 5)
    assert report["repairs"]["events_moved_to_a_later_split"] == 0


def test_dtypes(make_config, random_log):
    s = build_sequences(raw(random_log(0)), make_config())
    assert s.item_E.dtype == np.int32 and s.offsets_U1.dtype == s.time_E.dtype == np.int64
    for name in ("dislike", "dismissal", "dwell", "watch_ratio", "gap", "surface", "split"):
        assert getattr(s, f"{name}_E").dtype == np.uint8
    for name, size in s.catalogue.feature_sizes.items():
        if name not in ("creator", "cluster"):
            assert getattr(s, f"{name}_E").max() < size
    assert s.positive_weight_E.dtype == s.negative_weight_E.dtype == np.float32


def test_random_exposure(make_config):
    shown = SMALL.append_column("random_exposure", pa.array([None, 1, 0, 0, 1, None, 0]))
    assert build_sequences(raw(shown), make_config(negative=("dislike",))).random_E.tolist() == [
        2,
        1,
        0,
        2,
        1,
    ]
    assert not build_sequences(raw(SMALL), make_config(negative=("dislike",))).random_E.any()


def test_durations_of_the_item_table_fill_in(make_config):
    items = pa.table({"item_id": [5, 7, 99], "duration_ms": [20, 1, 5]})
    s = build_sequences(raw(SMALL, items), make_config(negative=("dislike",)))
    assert (s.watch_ratio_E > 0).tolist() == [True, True, True, False, False]
    assert s.watch_ratio_E[0] == s.watch_ratio_E[1]


def test_min_item_events_counts_the_training_period(make_config):
    s = build_sequences(raw(SMALL), make_config(negative=("dislike",), min_item_events=2))
    assert s.catalogue.item_ids.tolist() == [5]
    assert s.report["unknown_items"]["train"]["events"] == 1


def test_leave_one_out_counts_the_whole_log(make_config):
    table = pa.table(
        {
            "user_id": [1, 1, 1, 1, 2, 2, 2, 3, 3],
            "item_id": [5, 6, 7, 9, 5, 7, 9, 5, 6],
            "pos": [0, 1, 2, 3, 0, 1, 2, 0, 1],
            "like": [True] * 9,
        }
    )
    config = make_config("leave_one_out", positive=("like",), negative=(), min_item_events=2)
    s = build_sequences(raw(table), config)
    assert s.catalogue.item_ids.tolist() == [5, 6, 7, 9]  # 9 is seen in the test only
    assert s.catalogue.train_count_V.tolist() == [0, 3, 2, 0, 0]
    assert s.split_E.tolist() == [0, 0, 1, 2, 0, 1, 2, 0, 0]
    config = make_config("leave_one_out", positive=("like",), negative=(), min_item_events=3)
    with pytest.raises(DataError, match="`test`"):  # one event a user is left: it trains
        build_sequences(raw(table), config)


def test_a_given_vocabulary_is_kept(make_config):
    config = make_config(negative=("dislike",))
    first = build_sequences(raw(SMALL), config)
    again = build_sequences(raw(SMALL.slice(0, 4)), config_without_column(config), first.catalogue)
    assert again.catalogue is first.catalogue


def config_without_column(config):
    fractions = {"split": "temporal", "valid_fraction": 0.0, "test_fraction": 0.4}
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **fractions))


@pytest.mark.parametrize(("gone", "fraction"), [("train", 0.0), ("valid", 0.1), ("test", 0.1)])
def test_an_empty_split_is_refused(make_config, gone, fraction):
    table = SMALL.filter(pa.array([split != gone for split in SMALL["split"].to_pylist()]))
    config = make_config(negative=("dislike",), valid_fraction=fraction)
    with pytest.raises(DataError, match=f"log: .*`{gone}`"):
        build_sequences(raw(table), config)


def test_validation_may_be_empty_where_none_is_wanted(make_config):
    table = SMALL.filter(pa.array([split != "valid" for split in SMALL["split"].to_pylist()]))
    s = build_sequences(raw(table), make_config(negative=("dislike",), valid_fraction=0.0))
    assert s.report["splits"]["valid"]["events"] == 0


def test_bad_split_value_is_named(make_config):
    table = SMALL.set_column(4, "split", pa.array(["train"] * 5 + ["tset", "test"]))
    with pytest.raises(DataError, match="log: column `split`, row 5: 'tset'"):
        build_sequences(raw(table), make_config())


def test_ids_that_are_text_in_one_table_only(make_config):
    items = pa.table({"item_id": ["5", "7", "seven"], "creator_id": [1, 2, 3]})
    s = build_sequences(raw(SMALL, items), make_config(negative=("dislike",)))
    assert s.catalogue.item_ids.tolist() == [5, 7]
    assert s.catalogue.creator_V.tolist() == [0, 1, 2]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.integers(0, 10**6))
def test_future_feedback_changes_no_earlier_input(make_config, random_log, seed, cut):
    """docs/method.md §5.3, on the whole path from the log to the inputs of a request."""
    table = random_log(seed % 1000)
    rng = np.random.default_rng(seed)
    before = build_sequences(raw(table), make_config())
    assume(before.report["events"] == table.num_rows)  # so that places in the log are places here
    user = cut % len(before.user_ids)
    begin, end = before.offsets_U1[user : user + 2]
    place = cut % int(end - begin + 1)
    pos = table["pos"].to_numpy()
    future = np.flatnonzero((table["user_id"].to_numpy() == user) & (pos >= place))
    source = np.arange(table.num_rows)
    source[future] = rng.permutation(future)
    shuffled = table
    for name in ("long_view", "dislike", "skip", "dwell_ms", "duration_ms", "surface"):
        i = table.column_names.index(name)
        shuffled = shuffled.set_column(i, name, table[name].take(source))
    after = build_sequences(raw(shuffled), make_config())
    request = np.array([begin + place]), np.array([user])
    for left, right in zip(
        history_batch(before, *request, 12), history_batch(after, *request, 12), strict=True
    ):
        assert np.array_equal(left, right)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_the_order_of_the_rows_is_irrelevant(make_config, random_log, seed):
    table = random_log(seed)
    mixed = table.take(np.random.default_rng(seed).permutation(table.num_rows))
    one, other = (build_sequences(raw(t), make_config()) for t in (table, mixed))
    for name, value in vars(one).items():
        if isinstance(value, np.ndarray):
            assert np.array_equal(value, getattr(other, name)), name
    assert other.report["repairs"]["unsorted_events"] > 0
    assert one.report["splits"] == other.report["splits"]
    user_E = np.repeat(np.arange(len(one.user_ids)), np.diff(one.offsets_U1))
    assert np.all((np.diff(one.split_E.astype(int)) >= 0) | (np.diff(user_E) > 0))
