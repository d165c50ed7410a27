"""Item tables whose ids are written otherwise than the log's."""

import pyarrow as pa
import pytest

from negflax.data import RawData, build_sequences
from negflax.data.item_ids import like_events
from negflax.data.parts import Parts


def aligned(log, table):
    events, items = pa.table({"item_id": log}), pa.table({"item_id": table})
    return like_events(items, Parts([lambda: events]))["item_id"].to_pylist()


@pytest.mark.parametrize(
    ("log", "table", "expected"),
    [
        ([17, 18], [17, 18], [17, 18]),
        ([17, 18], ["17.0", "18.0", "abc"], ["17", "18", "abc"]),
        ([7, 8], ["007", "008"], ["7", "8"]),
        (["007", "008"], [7, 8], ["007", "008"]),
        (["007", "008", "a"], ["7", "8.0", "a"], ["007", "008", "a"]),
        (["7", "007", "x"], [7], ["7"]),  # ambiguous: the same text alone
        (["a", "b"], ["a", "c"], ["a", "c"]),
        (["x", "y", "17"], ["17"], ["17"]),
    ],
)
def test_like_events(log, table, expected):
    assert aligned(log, table) == expected


def test_the_report_counts_items_that_the_table_describes(random_log, make_config, caplog):
    items = pa.table({"item_id": ["0.0", "1.0", "77"], "title": ["zero", "one", "other"]})
    found = build_sequences(RawData(random_log(0), items, "log"), make_config())
    assert found.report["item_table"] == {"rows": 3, "items_described": 2}
    assert found.catalogue.titles[1:3].tolist() == ["zero", "one"]
    assert "the item table has 2 of 9 items" in caplog.text


def test_seconds_are_told_by_training(random_log, make_config, caplog):
    log = random_log(0).drop(["timestamp_ms"])
    log = log.append_column("timestamp_ms", pa.array([1_714_564_800 + i for i in range(len(log))]))
    report = build_sequences(RawData(log, None, "log"), make_config()).report
    assert report["times_look_like"] == "seconds"
    assert "`timestamp_ms` looks like seconds" in caplog.text
