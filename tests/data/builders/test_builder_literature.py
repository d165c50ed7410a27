"""RecBole's atomic files, SASRec's and S3Rec's text."""

import pytest

from negflax.data import DataError

pytest.importorskip("tensorflow_datasets", reason="needs the extra `tfds`")
from negflax.data.builders import text  # noqa: E402

INTER = (
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\ti3\t4\t881250949\n"
    "1\ti2\t1\t881250950.5\n2\ti3\t\t1611111111111\n"
)
ITEM = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    'i3\tToy Story\t1995\tComedy Drama\ni2\tGold"en Eye\t1995\t\n'
)


def test_recbole(prepared):
    events, items = prepared("recbole/ml", {"ml.inter": INTER, "ml.item": ITEM})
    assert events["user_id"].to_pylist() == [1, 1, 2]
    assert events["item_id"].to_pylist() == ["i3", "i2", "i3"]
    assert events["timestamp_ms"].to_pylist() == [881250949000, 881250950500, 1611111111111]
    assert events["rating"].to_pylist() == [4, 1, None]
    assert items.select(["item_id", "title", "cluster_ids"]).to_pylist() == [
        {"item_id": "i3", "title": "Toy Story", "cluster_ids": ["Comedy", "Drama"]},
        {"item_id": "i2", "title": 'Gold"en Eye', "cluster_ids": None},
    ]


def test_recbole_text_ids_in_the_item_file_alone(prepared):
    inter = "item_id:token\tuser_id:token\n5\t1\n4\t1\n"
    more = "item_id:token\tmovie_title:token\n5\tfive\n[PAD]\t\nx\tnone\n"
    events, items = prepared("recbole/x", {"x.inter": inter, "x.item": more})
    assert events["item_id"].to_pylist() == [5, 4]
    assert items["item_id"].to_pylist() == ["5", "[PAD]", "x"]


def test_recbole_without_times_or_items(prepared):
    events, items = prepared("recbole/x", {"x.inter": "item_id:token\tuser_id:token\n5\t1\n4\t1\n"})
    assert events.select(["user_id", "item_id", "pos", "interaction"]).to_pydict() == {
        "user_id": [1, 1],
        "item_id": [5, 4],
        "pos": [0, 1],
        "interaction": [True, True],
    }
    assert items is None


@pytest.mark.parametrize(
    ("inter", "message"),
    [
        ("user_id\titem_id:token\n1\t2\n", "column `user_id` has no type: write it as `user_id:t"),
        ("user:token\titem_id:token\n1\t2\n", "column `user_id:token` is missing in its header"),
        ("user_id:token\titem_id:token\n1\n", "x.inter: row 0: Expected 2 columns, got 1"),
        (INTER + "1\ti3\tfour\t1\n", "column `rating:float`, row 3: invalid value 'four'"),
        ("", "x.inter is empty"),
    ],
)
def test_bad_atomic_files(prepared, inter, message):
    with pytest.raises(DataError, match=message):
        prepared("recbole/x", {"x.inter": inter})


def test_sasrec(prepared, monkeypatch):
    monkeypatch.setattr(text, "BLOCK_BYTES", 32)
    pairs = [(u, 100 * u + i) for u in range(1, 6) for i in range(9)]
    lines = "".join(f"{u} {i}\n" for u, i in pairs)
    events, items = prepared("sasrec/Beauty", {"Beauty.txt": lines})
    columns = [events[n].to_pylist() for n in ("user_id", "item_id")]
    assert list(zip(*columns, strict=True)) == pairs and items is None
    assert events["pos"].to_pylist() == [*range(45)]
    assert all(events["interaction"].to_pylist())


@pytest.mark.parametrize("prefix", ["", "v"])
def test_s3rec(prepared, monkeypatch, prefix):
    monkeypatch.setattr(text, "BLOCK_BYTES", 64)
    histories = {u: [f"{prefix}{u * 10 + i}" for i in range(1 + u % 3)] for u in range(1, 20)}
    lines = "".join(f"{u} {' '.join(items)}\n" for u, items in histories.items())
    events, _ = prepared("s3rec/Beauty", {"Beauty.txt": lines})
    found = {}
    for event in sorted(events.to_pylist(), key=lambda e: e["pos"]):
        found.setdefault(int(event["user_id"]), []).append(str(event["item_id"]))
    assert found == histories
    assert events["item_id"].type == ("int64" if not prefix else "string")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("sasrec", "1 2\n3\n", "x.txt: row 1: Expected 2 columns, got 1"),
        ("s3rec", "1 2 3\n4\n", "x.txt: row 1: no user with an item: the end may be cut"),
        ("s3rec", "", "x.txt is empty"),
    ],
)
def test_bad_sequences(prepared, name, content, message):
    with pytest.raises(DataError, match=message):
        prepared(f"{name}/x", {"x.txt": content})
    with pytest.raises(DataError, match="y.txt: there is no such file"):
        prepared(f"{name}/y", {"x.txt": content})
