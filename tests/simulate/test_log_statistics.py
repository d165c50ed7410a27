"""Habits of a log worth a few lines, counted by hand."""

from __future__ import annotations

import pyarrow as pa
import pytest

from negflax.data.sources import RawData
from negflax.simulate.log_statistics import compare, creators, describe


def test_rates_by_hand():
    # One user, cluster 7 on items 1 and 2, cluster unknown on item 3; all but the last 22 % of the
    # times are history.
    long_view = [True, True, False, False, False, True, False, True, True, False]
    item = [1, 1, 5, 5, 5, 3, 3, 1, 1, 5]
    events = pa.table(
        {
            "user_id": [4] * 10,
            "item_id": item,
            "pos": list(range(10)),
            "timestamp_ms": pa.array([None] * 7 + [10, 20, 30], pa.int64()),
            "long_view": long_view,
            "like": [False] * 10,
            "dislike": [None] * 9 + [True],
            "dwell_ms": [9_000] * 8 + [2_000, 2_900],
            "duration_ms": [20_000] * 8 + [1_500, None],
        }
    )
    items = pa.table(
        {"item_id": [1, 5, 3], "cluster_ids": [[7, 9], [8], []], "creator_id": [20, None, 20]}
    )
    found = describe(RawData(events, items, "hand"))
    assert found["long_view"] == 0.5  # of the two newest
    assert found["dislike"] == 1.0
    assert found["skip"] == 0.5  # the last: below 3 s of an unknown length
    assert found["events per user, 50th percentile"] == 10
    assert found["events on the top 50% of items"] == pytest.approx(0.8)
    rows = compare({"real": found, "loose": found})
    assert [row["figure"] for row in rows] == list(found)
    assert all(row["real"] is row["loose"] for row in rows)
    creator = creators(events["item_id"], items)
    assert creator[0] == creator[5] >= 0 and (creator[2:5] == -1).all()
