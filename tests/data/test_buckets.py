"""Hash buckets: rows that items outside the vocabulary share as inputs, and as nothing else."""

import dataclasses
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from negflax.data import (
    DataError,
    RawData,
    build_histories,
    build_sequences,
    grow,
    history_batch,
    open_sequences,
)

BUCKETS = {"hash_buckets": 3, "min_item_events": 4, "reserved_items": 2}


@pytest.fixture
def table(random_log):
    return random_log(0, items=30).append_column(
        "creator_id", pa.array(np.arange(len(random_log(0, items=30))) % 4)
    )


def test_events_on_rare_items_stay_as_history_without_labels(table, make_config):
    plain = build_sequences(
        RawData(table, None, "log"), make_config(**BUCKETS | {"hash_buckets": 0})
    )
    s = build_sequences(RawData(table, None, "log"), make_config(**BUCKETS))
    catalogue, known_E = s.catalogue, s.item_E > 0
    assert plain.bucket_E is None
    np.testing.assert_array_equal(catalogue.item_ids, plain.catalogue.item_ids)
    np.testing.assert_array_equal(catalogue.train_count_V, plain.catalogue.train_count_V)
    assert s.report["unknown_items"] == plain.report["unknown_items"]
    assert len(s.item_E) == len(table) > known_E.sum()
    for name in ("item_E", "dislike_E", "positive_weight_E", "negative_weight_E", "split_E"):
        np.testing.assert_array_equal(getattr(s, name)[known_E], getattr(plain, name), name)
    assert not s.positive_weight_E[~known_E].any() and not s.negative_weight_E[~known_E].any()
    assert (s.bucket_E[known_E] == 0).all() and s.bucket_E.dtype == np.int32
    assert s.positive_weight_E.dtype == s.negative_weight_E.dtype == np.float32

    # The rows lie behind the items and the reserved rows; here events are in the order of the log.
    first = catalogue.num_rows + 2
    assert catalogue.table_rows == first + 3
    expected = [first + zlib.crc32(str(i).encode()) % 3 for i in table["item_id"].to_pylist()]
    order = np.lexsort([table["pos"], table["user_id"]])
    np.testing.assert_array_equal(s.bucket_E[~known_E], np.array(expected)[order][~known_E])

    user_R = np.arange(len(s.user_ids))
    batch = history_batch(s, s.offsets_U1[1:], user_R, 4)
    last_R = s.offsets_U1[1:] - 1
    np.testing.assert_array_equal(batch.item_ids_BT[:, -1], (s.item_E + s.bucket_E)[last_R])
    assert not batch.creator_BT[batch.item_ids_BT >= catalogue.num_rows].any()


def test_the_hash_is_that_of_the_standard(table, make_config):
    s = build_sequences(RawData(table, None, "log"), make_config(**BUCKETS))
    large = dataclasses.replace(s.catalogue, bucket_rows=10**9)
    first = large.table_rows - 10**9
    for ids in (np.array([123456789]), np.array(["123456789"])):
        assert large.buckets(ids) == first + 0xCBF43926 % 10**9  # the check value of CRC-32


def test_served_histories_are_those_of_training(table, make_config):
    s = build_sequences(RawData(table, None, "log"), make_config(**BUCKETS))
    served = build_histories(table.drop_columns(["split"]), s.catalogue, "log")
    for name in ("offsets_U1", "item_E", "bucket_E", "dislike_E", "gap_E", "watch_ratio_E"):
        np.testing.assert_array_equal(getattr(s, name), getattr(served, name), name)
    assert served.report["events_on_unknown_items"] == np.sum(s.item_E == 0) > 0


def test_the_cache_holds_them_where_there_are_any(table, make_config, tmp_path):
    pq.write_table(table, tmp_path / "log.parquet")
    for buckets in (0, 3):
        config = make_config(
            source="event_log",
            path=str(tmp_path / "log.parquet"),
            **BUCKETS | {"hash_buckets": buckets},
        )
        s = open_sequences(config, tmp_path)
        assert s.catalogue.bucket_rows == buckets and (s.bucket_E is None) == (buckets == 0)
        again = open_sequences(config, tmp_path, s.catalogue)
        np.testing.assert_array_equal(s.item_E, again.item_E)


def test_a_grown_catalogue_keeps_its_buckets(table, make_config):
    def catalogue(**data):
        return build_sequences(RawData(table, None, "log"), make_config(**BUCKETS | data)).catalogue

    known, day = catalogue(), catalogue(min_item_events=3)
    assert known.has_rows_of(catalogue()) and not known.has_rows_of(day)
    assert not known.has_rows_of(catalogue(reserved_items=9))  # its buckets lie elsewhere
    assert len(day.item_ids) - len(known.item_ids) > 2
    grown = grow(known, day, 50)
    assert grown.bucket_rows == 3 and grown.table_rows == grown.num_rows + 50 + 3
    with pytest.raises(DataError, match="hash_buckets = 5, but .* has 3: keep that number"):
        grow(known, catalogue(hash_buckets=5), 50)
