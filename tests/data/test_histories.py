"""The log to serve from: the features of training, and nobody is left out."""

import numpy as np
import pyarrow as pa
import pytest

from negflax.data import Catalogue, DataError, RawData, build_histories, build_sequences

FEATURES = (
    "item_E",
    "dislike_E",
    "dismissal_E",
    "dwell_E",
    "watch_ratio_E",
    "gap_E",
    "surface_E",
    "time_E",
)


def test_features_are_those_of_training(random_log, make_config):
    table = random_log(0)
    dismissal = pa.array(np.resize([0, 1, None, 0], len(table)).tolist(), pa.int64())
    table = table.append_column("dismissal", dismissal)
    items = pa.table({"item_id": np.arange(9), "duration_ms": np.arange(9) * 1000})
    training = build_sequences(RawData(table, items, "log"), make_config())
    columns = ["long_view", "skip", "split"]
    served = build_histories(table.drop_columns(columns), training.catalogue, "log")
    for name in ("user_ids", "offsets_U1", *FEATURES):
        np.testing.assert_array_equal(getattr(training, name), getattr(served, name), name)
        assert getattr(training, name).dtype == getattr(served, name).dtype
    assert not served.positive_weight_E.any() and not served.negative_weight_E.any()


def test_users_without_a_known_item_stay(log, make_config):
    table = log(split=["train", "valid", "test"], long_view=[True] * 3, item_id=[10, 10, 10])
    catalogue = build_sequences(RawData(table, None, "log"), make_config(negative=())).catalogue
    served = build_histories(log(user_id=[7, 8, 8], item_id=[99, 99, 10]), catalogue, "log")
    assert served.user_ids.tolist() == [7, 8]
    assert served.offsets_U1.tolist() == [0, 0, 1]
    assert served.item_E.tolist() == [1]
    assert served.report["users_without_history"] == 1
    assert served.report["events_on_unknown_items"] == 2
    assert served.unknown_U.tolist() == [1, 1]
    nobody = build_histories(log(item_id=[1, 2, 3]), catalogue, "log")
    assert nobody.offsets_U1.tolist() == [0, 0, 0]


def test_times_in_seconds_are_told_as_in_training(log, make_config, caplog):
    table = log(split=["train", "valid", "test"], long_view=[True] * 3, item_id=[10, 10, 10])
    catalogue = build_sequences(RawData(table, None, "log"), make_config(negative=())).catalogue
    seconds = [1_714_564_800 + i for i in range(3)]
    served = build_histories(log(timestamp_ms=seconds), catalogue, "log")
    assert served.report["times_look_like"] == "seconds"
    assert "`timestamp_ms` looks like seconds" in caplog.text


@pytest.mark.parametrize("ids", [np.array([3, 20, 100]), np.array(["100", "20", "3"])])
@pytest.mark.parametrize("asked", [[20, 100, 4], ["20", "100", "x"], ["20", "100", "020"]])
def test_ids_of_either_kind(log, ids, asked):
    zeros_V = np.zeros(4, np.int32)
    catalogue = Catalogue(ids, zeros_V, zeros_V[:, None], zeros_V)
    served = build_histories(log(item_id=asked), catalogue, "log")
    assert catalogue.ids(served.item_E).astype(str).tolist() == ["20", "100"]


def test_a_log_without_events_is_an_error(log):
    zeros_V = np.zeros(2, np.int32)
    catalogue = Catalogue(np.array([1]), zeros_V, zeros_V[:, None], zeros_V)
    with pytest.raises(DataError, match="mine.csv: the table has no rows"):
        build_histories(log().slice(0, 0), catalogue, "mine.csv")


def test_a_negative_rule_is_a_dislike_where_the_log_has_none(log, make_config):
    table = log(
        user_id=[1] * 5,
        item_id=[10, 11, 12, 11, 10],
        timestamp_ms=range(10**12, 10**12 + 5),
        stars=pa.array([5.0, 2.0, None, 1.0, 3.0]),
        split=["train"] * 3 + ["valid", "test"],
    )
    config = make_config(positive=("stars >= 3",), negative=("stars <= 2: 3", "skip: 0"))
    training = build_sequences(RawData(table, None, "log"), config)
    assert training.dislike_E.tolist() == [1, 2, 0, 2, 1]
    served = build_histories(table.drop_columns("split"), training.catalogue, "log", config.labels)
    np.testing.assert_array_equal(training.dislike_E, served.dislike_E)
    untold = table.drop_columns(["split", "stars"])
    assert not build_histories(untold, training.catalogue, "log", config.labels).dislike_E.any()
