"""Which files of a folder are read, and what is told of those that are not."""

import bz2
import gzip

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from negflax.data import DataError, open_sequences
from negflax.data.builders.mapping import Mapping
from negflax.data.event_files import Reading, event_chunks, event_files, read_events

HEADER = "user_id,item_id,timestamp_ms,like\n"


def text(path, rows, pack=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = (HEADER + "".join(f"{u},{i},{t},{like}\n" for u, i, t, like in rows)).encode()
    path.write_bytes(pack(data) if pack else data)


def test_packed_capital_and_partitioned_files_are_read(tmp_path):
    text(tmp_path / "1.csv.gz", [(1, 10, 5, 1)], gzip.compress)
    text(tmp_path / "2.CSV", [(1, 11, 6, 0)])
    text(tmp_path / "3.csv.BZ2", [(1, 12, 7, 0)], bz2.compress)
    (tmp_path / "date=2024-05-01" / "surface=3").mkdir(parents=True)
    table = pa.table({"user_id": [2], "item_id": [13], "timestamp_ms": [8], "like": [True]})
    pq.write_table(table, tmp_path / "date=2024-05-01" / "surface=3" / "x.parquet")
    events, _ = read_events(str(tmp_path))
    assert events["item_id"].to_pylist() == [10, 11, 12, 13]
    assert events["like"].to_pylist() == [True, False, False, True]
    assert events["surface"].to_pylist() == [None, None, None, 3]


def test_what_is_left_out_is_named(tmp_path, make_config, random_log):
    table = random_log(0).append_column("note", pa.array(["x"] * random_log(0).num_rows))
    (tmp_path / "log").mkdir()
    pq.write_table(table, tmp_path / "log" / "1.parquet")
    (tmp_path / "log" / "2.csv").touch()
    (tmp_path / "log" / "3.csv").write_text(HEADER.strip())  # no line end
    text(tmp_path / "log" / "4.tsv", [(1, 2, 3, 1)])
    config = make_config(source="event_log", path=str(tmp_path / "log"))
    report = open_sequences(config, tmp_path).report
    assert [name[-5:] for name in report["empty_files"]] == ["2.csv", "3.csv"]
    assert report["files_left_out"] == ["4.tsv"]
    assert report["columns_left_out"] == ["note"]


def test_only_empty_files(tmp_path):
    text(tmp_path / "1.csv", [])
    (tmp_path / "2.csv").write_text(HEADER.strip())
    with pytest.raises(DataError, match=r"1\.csv: the table has no rows"):
        read_events(str(tmp_path))


def test_a_folder_with_only_other_types_of_files(tmp_path):
    text(tmp_path / "1.tsv", [(1, 2, 3, 1)])
    reading = Reading()
    with pytest.raises(DataError, match=r"no \.parquet or \.csv file is in this folder"):
        event_files(str(tmp_path), reading=reading)
    assert reading.report() == {"files_left_out": ["1.tsv"]}


@pytest.mark.parametrize("latin_column", ["item_id", "title"])
def test_latin_1_names_file_and_column(tmp_path, latin_column):
    path = tmp_path / "e.csv"
    row = {"user_id": "1", "item_id": "2", "title": "x"} | {latin_column: "caf\xe9"}
    lines = [",".join([*row, "timestamp_ms"]), ",".join([*row.values(), "3"])]
    path.write_bytes("\n".join(lines).encode("latin-1"))
    if latin_column == "title":
        (chunk,) = event_chunks([path], 10)
        assert "title" not in chunk.column_names  # no one asks for it
        with pytest.raises(DataError, match=r"e\.csv: column `title`.*save the file as UTF-8"):
            list(event_chunks([path], 10, {"title": "text"}))
    else:
        with pytest.raises(DataError, match=r"e\.csv: column `item_id`.*save the file as UTF-8"):
            list(event_chunks([path], 10))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_zero_and_one_written_in_two_ways_are_one_signal(tmp_path, suffix):
    base = {"user_id": [1], "item_id": [2], "timestamp_ms": [3]}
    ways = [pa.array([True]), pa.array([1]), pa.array([0.0]), pa.array([None])]
    for i, way in enumerate(ways):
        table = pa.table(base | {"timestamp_ms": [i], "saved": way})
        path = tmp_path / f"{i}.{suffix}"
        pq.write_table(table, path) if suffix == "parquet" else csv.write_csv(table, path)
    assert read_events(str(tmp_path))[0]["saved"].to_pylist() == [True, True, False, None]


@pytest.mark.parametrize(
    ("column", "value", "left"),
    [
        (pa.array(["-1", "-1.0", "-1.00", " -1", "3"]), -1, ["3"]),
        (pa.array([-1.0, 3.0]), -1, [3.0]),
        (pa.array([-1, 3]), "-1.0", [3]),
        (pa.array(["N/A", "n/a", "3"]), "n/a", ["3"]),
        (pa.array(["-1", "3"]).dictionary_encode(), -1, ["3"]),
        (pa.array([True, False]), False, [True]),
    ],
)
def test_a_sentinel_is_compared_as_its_column(column, value, left):
    table = Mapping(unknown={"rating": value}).apply(pa.table({"rating": column}), "log", 0)
    assert table["rating"].drop_null().to_pylist() == left


def test_a_sentinel_that_its_column_cannot_hold():
    with pytest.raises(DataError, match=r"\[unknown\] rating = 'none'.*holds numbers"):
        Mapping(unknown={"rating": "none"}).apply(pa.table({"rating": [1, 2]}), "log", 0)
