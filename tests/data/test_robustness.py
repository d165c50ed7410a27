"""One log written in every equivalent way gives equal sequences and labels."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from equivalent_logs import at_path, change, logs, ways, write, written
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.data import Catalogue, DataError, open_sequences, read_events, validate
from negflax.data.cells import LONGEST_ID

ARRAYS = ("item_E", "time_E", "positive_weight_E", "negative_weight_E", "split_E")
RULES = {
    "positive": ("bought", 'event == "purchase": 2'),
    "negative": ("returned", "dislike"),
    "source": "event_log",
}


@given(ways, st.integers(0, 3))
@settings(max_examples=12, deadline=None)
def test_every_way_to_write_a_log_gives_the_same_sequences(make_config, way, seed):
    table = logs(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = make_config("temporal", **RULES, path=str(folder / "plain"))
        write(table, folder / "plain" / "1", "parquet")
        expected = open_sequences(config, folder / "a")
        written(table, way, folder / "other")
        found = open_sequences(at_path(config, folder / "other"), folder / "b")
        assert found.report["splits"] == expected.report["splits"]
        assert found.catalogue.item_ids.tolist() == expected.catalogue.item_ids.tolist()
        for field in ARRAYS:
            np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))


def test_files_keep_their_order_at_ties(tmp_path, make_config):
    base = {"user_id": [1, 1], "timestamp_ms": [5, 5], "split": ["train", "train"]}
    for i, more in enumerate([{"like": [1, 0]}, {"rating": [1.5, 2]}, {"like": [0, 1]}]):
        columns = base | {"item_id": [2 * i, 2 * i + 1]} | more
        pq.write_table(pa.table(columns), tmp_path / f"{i}.parquet")
    last = {"user_id": [1, 1], "timestamp_ms": [6, 7], "split": ["valid", "test"]}
    pq.write_table(pa.table(last | {"item_id": [0, 0]}), tmp_path / "3.parquet")
    config = make_config(positive=("like",), negative=(), source="event_log", path=str(tmp_path))
    found = open_sequences(config, tmp_path / "run")
    in_training = found.catalogue.ids(found.item_E).tolist()
    serving, _ = validate(read_events(str(tmp_path))[0], "log")
    assert in_training == serving["item_id"].to_pylist() == [0, 1, 2, 3, 4, 5, 0, 0]
    assert found.report["tied_events"] == 5


def test_two_logs_of_one_name_size_and_time_have_two_caches(tmp_path, make_config):
    import os

    found = []
    for folder, likes in (("a", "1,0,1"), ("b", "0,1,0")):
        path = tmp_path / folder / "log.csv"
        path.parent.mkdir()
        rows = zip((1, 1, 1), (1, 2, 1), (5, 6, 7), ("train", "valid", "test"), strict=True)
        lines = [
            ",".join(map(str, row)) + f",{like}"
            for row, like in zip(rows, likes.split(","), strict=True)
        ]
        lines[1] = lines[1].replace(",2,", ",1,")
        path.write_text("user_id,item_id,timestamp_ms,split,like\n" + "\n".join(lines) + "\n")
        os.utime(path, ns=(10**18, 10**18))
        config = make_config(
            positive=("like",),
            negative=(),
            source="event_log",
            path=str(path),
            cache_dir=str(tmp_path / "cache"),
        )
        found.append(open_sequences(config, tmp_path / folder).positive_weight_E.tolist())
    assert found == [[1, 0, 1], [0, 1, 0]]


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (["a", "b", "a\0"], r"row 2: the id 'a\\x00' holds a zero byte"),
        (["a", "b", "x" * (LONGEST_ID + 1)], "row 2: an id of 1,001 characters"),
    ],
)
def test_ids_that_cannot_be_stored(log, ids, words):
    with pytest.raises(DataError, match=words):
        validate(log(item_id=ids), "log.csv")


def test_ids_with_line_breaks_have_a_fingerprint_of_their_own():
    def fingerprint(ids):
        zeros = np.zeros(len(ids) + 1, np.int64)
        return Catalogue(np.array(ids), zeros, zeros[:, None], zeros).fingerprint

    assert fingerprint(["a\nb", "c"]) != fingerprint(["a", "b\nc"])


def test_a_log_of_many_columns_opens(log):
    wide = log(**{f"c{i}": [0, 1, 0] for i in range(3_000)})
    table, _ = validate(wide, "log.csv")
    assert table.num_columns == 3_003
    assert pa.types.is_boolean(table["c7"].type)


def test_text_that_a_rule_asks_for_is_a_signal(tmp_path, make_config):
    table = pa.table(
        {
            "user_id": [1, 1, 1, 1],
            "item_id": [1, 2, 1, 2],
            "timestamp_ms": [5, 6, 7, 8],
            "split": ["train", "train", "valid", "test"],
            "event": ["purchase", "view", "view", "purchase"],
            "my stars": ["5", "1", "", "2.0"],
        }
    )
    pq.write_table(table, tmp_path / "1.parquet")
    config = make_config(
        positive=('event == "purchase"',),
        negative=("event == view and `my stars` < 2",),
        source="event_log",
        path=str(tmp_path),
    )
    with pytest.raises(DataError, match=r"`my stars`, row 2: text '' in a number column"):
        open_sequences(config, tmp_path / "run")
    table = change(table, "my stars", lambda c: pc.if_else(pc.equal(c, ""), None, c))
    pq.write_table(table, tmp_path / "1.parquet")
    found = open_sequences(config, tmp_path / "run")
    assert found.positive_weight_E.tolist() == [1, 0, 0, 1]
    assert found.negative_weight_E.tolist() == [0, 1, 0, 0]
