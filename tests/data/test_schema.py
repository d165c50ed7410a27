"""Every bad input is refused with its file, column and row; every safe repair is counted."""

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.data import DataError, validate, validate_items

NAN, INF = float("nan"), float("inf")


def check(call, *words):
    """The call raises a DataError that names the file and every word."""
    with pytest.raises(DataError) as caught:
        call()
    for word in ("events.csv", *words):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"user_id": None}, ["`user_id`", "missing"]),
        ({"item_id": None}, ["`item_id`", "missing"]),
        ({"timestamp_ms": None}, ["`timestamp_ms`", "`pos`"]),
        ({"user_id": [1, None, 2]}, ["`user_id`", "row 1", "null"]),
        ({"item_id": ["a", "b", ""]}, ["`item_id`", "row 2", "null"]),
        ({"item_id": [1.5, 2.5, 3.5]}, ["`item_id`", "row 0", "1.5 is not an id"]),
        ({"timestamp_ms": ["5", "soon", "7"]}, ["`timestamp_ms`", "row 1", "'soon'", "number"]),
        ({"timestamp_ms": [5, -6, 7]}, ["`timestamp_ms`", "row 1", "negative"]),
        ({"timestamp_ms": [5, 6, None]}, ["`timestamp_ms`", "row 2", "`pos`"]),
        ({"pos": [0, None, 0]}, ["`pos`", "row 1", "null"]),
        ({"dwell_ms": [1, 2, -1]}, ["`dwell_ms`", "row 2", "negative"]),
        ({"dwell_ms": [1.0, NAN, 2.0]}, ["`dwell_ms`", "row 1", "nan"]),
        ({"dwell_ms": [INF, 1.0, 2.0]}, ["`dwell_ms`", "row 0", "inf"]),
        ({"duration_ms": [1, "long", 2]}, ["`duration_ms`", "row 1", "'long'"]),
        ({"rating": [1.0, 2.0, NAN]}, ["`rating`", "row 2", "nan"]),
        ({"dislike": [0, 1, 2]}, ["`dislike`", "row 2", "yes nor no"]),
        ({"skip": ["true", "no idea", None]}, ["`skip`", "row 1", "'no idea'"]),
        ({"split": ["train", "dev", "test"]}, ["`split`", "row 1", "'dev'", "valid"]),
        ({"split": ["train", None, "test"]}, ["`split`", "row 1"]),
        ({"split": [0, 1, 2]}, ["`split`", "row 0", "train"]),
        ({"cluster_ids": [[1.5], [2.5], None]}, ["`cluster_ids`"]),
    ],
)
def test_bad_input_is_named(log, columns, words):
    columns = {
        k: pa.array([None if x is None else str(x) for x in v])
        if v and len({type(x) for x in v if x is not None}) > 1
        else v
        for k, v in columns.items()
    }
    check(lambda: validate(log(**columns), "events.csv"), *words)


def test_empty_table_and_double_column(log):
    check(lambda: validate(log().slice(0, 0), "events.csv"), "no rows")
    twice = log().append_column("item_id", pa.array([1, 2, 3]))
    check(lambda: validate(twice, "events.csv"), "`item_id`", "twice")


def test_canonical_types_and_nulls_stay_null(log):
    table, _ = validate(
        log(
            user_id=pa.array(["b", "b", "a"]).dictionary_encode(),
            timestamp_ms=pa.array([5, 6, 7], pa.timestamp("s")),
            dislike=pa.array([1, None, 0], pa.int8()),
            like=["true", None, "FALSE"],
            seen_before=[0, 1, None],
            quality=pa.array([0.5, None, 1.0], pa.float32()),
            dwell_ms=pa.array([1.6, None, 2.0]),
            cluster_ids=[["x", "y"], None, []],
            remark=["free", "text", "x"],
        ),
        "events.csv",
    )
    assert table["user_id"].to_pylist() == ["a", "b", "b"]
    assert table["timestamp_ms"].to_pylist() == [7000, 5000, 6000]
    assert table["timestamp_ms"].type == pa.int64()
    assert table["dislike"].to_pylist() == [False, True, None]
    assert table["like"].to_pylist() == [False, True, None]
    assert table["seen_before"].to_pylist() == [None, False, True]
    assert table["quality"].type == pa.float64()
    assert table["dwell_ms"].to_pylist() == [2, 2, None]
    assert table["cluster_ids"].to_pylist() == [[], ["x", "y"], None]
    assert "remark" not in table.column_names


def test_sorts_by_pos_before_time_and_counts_repairs(log):
    table, report = validate(log(user_id=[1, 1, 1], pos=[1, 0, 2]), "events.csv")
    assert table["timestamp_ms"].to_pylist() == [6, 5, 7]
    assert report == {"unsorted_events": 1, "duplicate_events": 0}


def test_interleaved_users_are_no_repair(log):
    table, report = validate(log(user_id=[1, 2, 1]), "events.csv")
    assert table["timestamp_ms"].to_pylist() == [5, 7, 6]
    assert report["unsorted_events"] == 0


def test_only_exact_duplicates_are_dropped():
    same_time = pa.table(
        {
            "user_id": [1, 1, 1, 1, 1],
            "item_id": [7, 8, 7, 7, 7],
            "timestamp_ms": [5, 5, 5, 5, 5],
            "like": [None, None, None, True, None],
            "cluster_ids": [[1, 2], [1, 2], [1, 2], [1, 2], [2, 1]],
        }
    )
    table, report = validate(same_time, "events.csv")
    assert report["duplicate_events"] == 1
    assert table["item_id"].to_pylist() == [7, 8, 7, 7]
    assert table["like"].to_pylist() == [None, None, True, None]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=30), st.booleans())
def test_validate_equals_a_plain_loop(rows, text):
    user = [f"u{u}" if text else u for u, _, _ in rows]
    columns = {"user_id": user, "item_id": [i for _, i, _ in rows]}
    table = pa.table({**columns, "timestamp_ms": [t for _, _, t in rows]})
    result, report = validate(table, "events.csv")
    keyed = list(zip(user, columns["item_id"], [t for _, _, t in rows], strict=True))
    expected = sorted(dict.fromkeys(keyed), key=lambda row: (row[0], row[2]))
    assert list(zip(*result.to_pydict().values(), strict=True)) == expected
    assert report["duplicate_events"] == len(rows) - len(expected)
    again, repairs = validate(result, "events.csv")
    assert again.equals(result) and not any(repairs.values())


def test_items():
    items = pa.table(
        {"item_id": [1, 2], "title": ["a", None], "cluster_ids": [3, None], "x": [1, 1]}
    )
    assert validate_items(items, "events.csv").column_names == ["item_id", "title", "cluster_ids"]
    assert (
        validate_items(pa.table({"item_id": [1], "title": [1917]}), "x")["title"][0].as_py()
        == "1917"
    )
    bad = {
        "missing": pa.table({"title": ["a"]}),
        "row 1": pa.table({"item_id": [1, None]}),
        "item 4 appears twice": pa.table({"item_id": [4, 3, 4]}),
        "`duration_ms`, row 0": pa.table({"item_id": [1], "duration_ms": [-3]}),
        "no rows": pa.table({"item_id": pa.array([], pa.int64())}),
        "`title`: values of type list": pa.table({"item_id": [1], "title": [["a"]]}),
        "`title`: values of type struct": pa.table({"item_id": [1], "title": [{"en": "a"}]}),
        "`cluster_ids`: an id beyond int64": pa.table(
            {"item_id": [1], "cluster_ids": pa.array([[2**64 - 1]], pa.list_(pa.uint64()))}
        ),
    }
    for words, table in bad.items():
        check(lambda table=table: validate_items(table, "events.csv"), words)


def test_row_is_that_of_the_file_not_of_the_sorted_log():
    rng = np.random.default_rng(0)
    dwell = np.abs(rng.normal(size=50))
    dwell[37] = NAN
    table = pa.table(
        {"user_id": rng.permutation(50), "item_id": range(50), "pos": range(50), "dwell_ms": dwell}
    )
    with pytest.raises(DataError, match=re.escape("events.csv: column `dwell_ms`, row 37:")):
        validate(table, "events.csv")
