"""Files and folders, the synthetic data set's cache, and what is said when something is missing."""

import dataclasses
import sys
import types

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

import negflax
from negflax.config import Config, DataConfig, WorldConfig
from negflax.data import DataError, build_sequences, open_source

EVENTS = pa.table(
    {
        "user_id": [1, 1, 2, 2],
        "item_id": [10, 11, 10, 12],
        "timestamp_ms": [1, 2, 3, 4],
        "like": [True, None, False, None],
        "dwell_ms": [100, None, 0, 7],
    }
)


def event_log(path, items=""):
    data = DataConfig(source="event_log", path=str(path), items_path=str(items))
    return open_source(Config(data=data), "unused")


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_parquet_and_csv_read_alike(tmp_path):
    pq.write_table(EVENTS, tmp_path / "a.parquet")
    csv.write_csv(EVENTS, tmp_path / "a.csv")
    one, other = (event_log(tmp_path / f"a.{kind}") for kind in ("parquet", "csv"))
    assert one.events.equals(other.events)
    assert one.events["like"].to_pylist() == [True, None, False, None]
    assert (one.items, one.name) == (None, "event_log")


def test_a_folder_is_read_in_the_order_of_names_without_the_items(tmp_path):
    csv.write_csv(EVENTS.slice(2), tmp_path / "2.csv")
    pq.write_table(EVENTS.slice(0, 2), tmp_path / "1.parquet")
    write(tmp_path, "notes.txt", "not data")
    write(tmp_path, ".hidden.csv", "not data")
    items = write(tmp_path, "items.csv", "item_id,title\n10,ten\n12,twelve\n")
    raw = event_log(tmp_path, items)
    assert raw.events.equals(EVENTS)
    assert raw.items.to_pydict() == {"item_id": [10, 12], "title": ["ten", "twelve"]}


def test_rows_are_counted_in_their_own_file(tmp_path):
    csv.write_csv(EVENTS, tmp_path / "1.csv")
    write(tmp_path, "2.csv", "user_id,item_id,timestamp_ms,dwell_ms\n3,10,5,1\n3,11,6,-1\n")
    with pytest.raises(DataError, match=r"2\.csv: column `dwell_ms`, row 1: -1 is negative"):
        event_log(tmp_path)


def test_text_far_down_in_a_number_column(tmp_path):
    lines = [f"{i},1,{i}" for i in range(200_000)] + ["7,1,late"]
    path = write(tmp_path, "e.csv", "user_id,item_id,timestamp_ms\n" + "\n".join(lines))
    with pytest.raises(DataError, match=r"e\.csv: column `timestamp_ms`, row 200000: text 'late'"):
        event_log(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("user_id,item_id,timestamp_ms,dwell_ms\n1,2,3,nan\n", "`dwell_ms`, row 0: nan"),
        ("user_id,item_id,timestamp_ms,dwell_ms\n1,2,3,4\n1,2,4,inf\n", "`dwell_ms`, row 1: inf"),
        ("user_id,item_id,timestamp_ms\n1,2,3\n,2,4\n", "`user_id`, row 1: is null"),
        ("user_id,item_id,timestamp_ms\n", "no rows"),
        ("user_id,item_id\n1,2\n", "neither column `timestamp_ms` nor `pos`"),
        ("user_id,item_id,timestamp_ms\n1,2\n", "cannot be read.*Expected 3 columns"),
        ("", "cannot be read"),
    ],
)
def test_bad_csv(tmp_path, text, words):
    path = write(tmp_path, "e.csv", text)
    with pytest.raises(DataError, match=rf"e\.csv.*{words}"):
        event_log(path)


def test_a_truncated_parquet_file_is_named(tmp_path):
    path = tmp_path / "part-7.parquet"
    pq.write_table(EVENTS, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"part-7\.parquet cannot be read"):
        event_log(tmp_path)


def test_missing_files_and_kinds(tmp_path):
    with pytest.raises(DataError, match=r"no\.csv: there is no such file"):
        event_log(tmp_path / "no.csv")
    with pytest.raises(DataError, match=r"no \.parquet or \.csv file"):
        event_log(tmp_path)
    with pytest.raises(DataError, match=r"a \.parquet or \.csv file is expected"):
        event_log(write(tmp_path, "log.json", "{}"))


def test_files_that_disagree(tmp_path):
    pq.write_table(EVENTS.append_column("cluster_ids", pa.array([1] * 4)), tmp_path / "1.parquet")
    lists = pa.array([["a"]] * 4)
    pq.write_table(EVENTS.append_column("cluster_ids", lists), tmp_path / "2.parquet")
    with pytest.raises(DataError, match="disagree on the type of a column"):
        event_log(tmp_path)


def test_csv_ids_keep_leading_zeros_in_every_file(tmp_path):
    write(tmp_path, "1.csv", "user_id,item_id,pos\n007,1,0\n")
    write(tmp_path, "2.csv", "user_id,item_id,pos\n7,2,0\n")
    events = event_log(tmp_path).events
    assert events["user_id"].to_pylist() == ["007", "7"]
    assert events["item_id"].to_pylist() == [1, 2]


@pytest.mark.parametrize("source", ["kuairand_mini", "movielens_100k", "ml1m_sequences"])
def test_missing_data_names_the_variable(monkeypatch, tmp_path, source):
    monkeypatch.delenv("NEGFLAX_DATA_DIR", raising=False)
    with pytest.raises(DataError, match="NEGFLAX_DATA_DIR"):
        open_source(Config(data=DataConfig(source=source)), tmp_path)
    monkeypatch.setenv("NEGFLAX_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match="set NEGFLAX_DATA_DIR"):
        open_source(Config(data=DataConfig(source=source)), tmp_path)
    with pytest.raises(DataError, match=r"set config\.data\.root"):
        open_source(Config(data=DataConfig(source=source, root=str(tmp_path))), tmp_path)


@pytest.fixture
def fake_world(monkeypatch):
    """A stand-in for the simulated platform that counts how often it is asked."""
    calls = []

    def generate(world):
        calls.append(world)
        return EVENTS, pa.table({"item_id": [10, 11, 12]})

    fake = types.SimpleNamespace(generate=generate)
    monkeypatch.setitem(sys.modules, "negflax.world", fake)
    monkeypatch.setattr(negflax, "world", fake, raising=False)
    return calls


def test_synthetic_is_generated_once_for_each_world(tmp_path, fake_world):
    config = Config(world=WorldConfig(seed=1))
    for _ in range(2):
        raw = open_source(config, tmp_path)
        assert raw.events.equals(EVENTS) and raw.items.num_rows == 3
    assert len(fake_world) == 1
    assert sorted(f.name for f in (tmp_path / "data").iterdir()) == [
        "events.parquet",
        "items.parquet",
    ]
    open_source(dataclasses.replace(config, world=WorldConfig(seed=2)), tmp_path)
    assert len(fake_world) == 2
    (tmp_path / "data" / "items.parquet").write_bytes(b"cut")
    open_source(dataclasses.replace(config, world=WorldConfig(seed=2)), tmp_path)
    assert len(fake_world) == 3


def test_synthetic_cache_dir(tmp_path, fake_world):
    config = Config(data=DataConfig(cache_dir=str(tmp_path / "cache")))
    open_source(config, tmp_path / "run")
    assert (tmp_path / "cache" / "events.parquet").exists()
    assert not (tmp_path / "run").exists()


def test_from_a_file_to_sequences(tmp_path, make_config):
    csv.write_csv(EVENTS, tmp_path / "e.csv")
    config = make_config(
        "temporal",
        source="event_log",
        path=str(tmp_path / "e.csv"),
        valid_fraction=0.0,
        test_fraction=0.5,
        positive=("like",),
        negative=("dwell_ms < 50",),
    )
    s = build_sequences(open_source(config, tmp_path), config)
    assert s.item_E.tolist() == [1, 2, 1]
    assert s.negative_weight_E.tolist() == [0, 0, 1]
