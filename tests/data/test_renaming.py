import pyarrow as pa
import pytest

from negflax.config import ConfigError
from negflax.data import DataError, read_events
from negflax.data.renaming import renaming


def test_columns_take_our_names_and_times_become_milliseconds(tmp_path):
    (tmp_path / "log.csv").write_text("who,what,when\n007,a,1600000000\n8,b,1600000001.5\n")
    names = ("user_id=who", "item_id=what", "timestamp_ms=when:s")
    events, _ = read_events(str(tmp_path / "log.csv"), columns=names)
    assert events["user_id"].to_pylist() == ["007", "8"]  # ids stay text
    assert events["timestamp_ms"].to_pylist() == [1_600_000_000_000, 1_600_000_001_500]


def test_nanoseconds_are_divided_as_integers():
    table = pa.table({"t": [1_600_000_000_123_999_999]})
    times = renaming(("timestamp_ms=t:ns",)).apply(table, "log")
    assert times["timestamp_ms"].to_pylist() == [1_600_000_000_123]


def test_a_column_of_times_says_its_unit_itself():
    table = pa.table({"t": pa.array([1_600_000_000], pa.timestamp("s"))})
    assert (
        renaming(("timestamp_ms=t:ns",)).apply(table, "log")["timestamp_ms"].type == "timestamp[s]"
    )


def test_errors_name_all_columns_and_the_way_out():
    table = pa.table({"a": [1], "user_id": [2]})
    with pytest.raises(DataError, match="names `b`, `c`; the file has a, user_id"):
        renaming(("user_id=b", "item_id=c")).apply(table, "log")
    with pytest.raises(DataError, match="the file has another `user_id`"):
        renaming(("user_id=a",)).apply(table, "log")
    with pytest.raises(ConfigError, match="is not a pair of columns"):
        renaming(("movieId",))
    with pytest.raises(ConfigError, match="a second time"):
        renaming(("user_id=a", "item_id=a"))
