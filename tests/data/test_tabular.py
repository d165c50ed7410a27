"""Data frames and tables in memory: what of them becomes a file, and what is refused."""

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from negflax.data import DataError
from negflax.data.tabular import arrow_table, as_file

VIEWS = pa.array(["a", "b", None]).cast(pa.string_view())


class Frame:
    """As a data frame of pandas: names may be there twice, and Arrow may not know a type."""

    def __init__(self, **columns):
        self.columns = list(columns)
        self.held = columns

    def __getitem__(self, names):
        return Frame(**{name: self.held[name] for name in names})

    def __arrow_c_stream__(self, requested_schema=None):
        return pa.table(self.held).__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    "column",
    [
        pa.DictionaryArray.from_arrays(pa.array([0, 1, None]), VIEWS),
        pa.DictionaryArray.from_arrays(pa.array([0, 1, 2]), pa.array(["a", "b", None])),
        pc.run_end_encode(pa.array(["a", "b", None])),
    ],
)
def test_columns_that_parquet_holds_in_another_form(tmp_path, column):
    path = as_file(pa.table({"item_id": column}), tmp_path, "events")
    assert pq.read_table(path)["item_id"].to_pylist() == ["a", "b", None]


def test_columns_that_parquet_cannot_hold_are_left_out_and_named(tmp_path, caplog):
    table = duckdb.sql("select 1 as item_id, interval 1 day as x, union_value(n := 2) as y")
    assert pq.read_table(as_file(table, tmp_path, "events")).column_names == ["item_id"]
    assert "are left out: x (month_day_nano_interval), y (sparse_union" in caplog.text
    ours = duckdb.sql("select 1 as item_id, interval 1 day as dwell_ms")
    with pytest.raises(DataError, match="events: column `dwell_ms`: Parquet has no month_day_nano"):
        as_file(ours, tmp_path, "events")


def test_a_column_that_arrow_cannot_hold_is_named():
    with pytest.raises(DataError, match="^data: column `b` cannot be read as an Arrow table .*str"):
        arrow_table(Frame(a=[1, 2], b=[1, "x"]))
    with pytest.raises(DataError, match="^data cannot be read as an Arrow table"):
        arrow_table(duckdb.sql("select 'x'::int as a from range(2)"))
