"""MovieLens in each of its original formats."""

import os
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from negflax.data import DataError

CSV = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,10,4.5,100\n1,20,2.0,200\n2,10,0.5,50\n",
    "movies.csv": "movieId,title,genres\n"
    '10,"American President, The (1995)",Comedy|Drama\n20,Amélie (2001),(no genres listed)\n',
}
FLAGS = {"Comedy": 5, "Drama": 8, "unknown": 0}


def u_item(item, title, *genres):
    flags = ["0"] * 19
    for genre in genres:
        flags[FLAGS[genre]] = "1"
    return f"{item}|{title}|01-Jan-1995||http://us.imdb.com/?a|{'|'.join(flags)}\n"


FORMATS = {
    "100k": {
        "u.data": "1\t10\t4\t100\n1\t20\t2\t200\n2\t10\t1\t50\n",
        "u.item": (
            u_item(10, 'American "President", The (1995)', "Comedy", "Drama")
            + u_item(20, "Amélie (2001)", "unknown")
        ).encode("latin-1"),
    },
    "1m": {
        "ratings.dat": "1::10::4::100\n1::20::2::200\n2::10::1::50\n",
        "movies.dat": (
            "10::Seven: The Movie (1995)::Comedy|Drama\n20::Amélie (2001)::(no genres listed)\n"
        ).encode("latin-1"),
    },
    **dict.fromkeys(("20m", "25m", "32m", "latest", "latest-small"), CSV),
}


@pytest.mark.parametrize("size", FORMATS)
def test_every_format(prepared, size):
    events, items = prepared(f"movie_lens/{size}", FORMATS[size])
    halves = size not in ("100k", "1m")
    assert events["user_id"].to_pylist() == [1, 1, 2]
    assert events["item_id"].to_pylist() == [10, 20, 10]
    assert events["rating"].to_pylist() == ([4.5, 2, 0.5] if halves else [4, 2, 1])
    assert events["timestamp_ms"].to_pylist() == [100_000, 200_000, 50_000]
    assert events["dislike"].to_pylist() == [False, True, True]
    assert items["cluster_ids"].to_pylist() == [["Comedy", "Drama"], None]
    assert items["title"].to_pylist()[1] == "Amélie (2001)"
    assert items["item_id"].to_pylist() == [10, 20]


def test_titles_hold_quotes_and_colons(prepared):
    _, items = prepared("movie_lens/100k", FORMATS["100k"])
    assert items["title"][0].as_py() == 'American "President", The (1995)'
    _, items = prepared("movie_lens/1m", FORMATS["1m"])
    assert items["title"][0].as_py() == "Seven: The Movie (1995)"


@pytest.mark.parametrize(
    ("size", "name", "content", "message"),
    [
        ("1m", "ratings.dat", "1::10::4::100\n1::20\n", "row 1: Expected 7 columns, got 3"),
        ("1m", "movies.dat", "10::Seven\n", "movies.dat: row 0: `10::Seven` is not id::title::g"),
        ("1m", "movies.dat", "", "movies.dat is empty"),
        ("100k", "u.data", "1\t10\tx\t100\n", "u.data: column `rating`, row 0: invalid value 'x'"),
        ("25m", "ratings.csv", "user,movie\n1,2\n", "column `userId` is missing; its header is u"),
        ("25m", "movies.csv", b"movieId,title,genres\n1,Am\xe9lie,\n", "column `title`, row 0: "),
        ("25m", "movies.csv", "movieId,title,genres\n1,a,b\n1,a,b\n", "row 1: item 1 appears twi"),
    ],
)
def test_bad_files(prepared, size, name, content, message):
    with pytest.raises(DataError, match=message):
        prepared(f"movie_lens/{size}", FORMATS[size] | {name: content})


@pytest.mark.skipif(not os.environ.get("NEGFLAX_DATA_DIR"), reason="needs NEGFLAX_DATA_DIR")
def test_the_real_100k_in_the_original_format(prepared):
    folder = Path(os.environ["NEGFLAX_DATA_DIR"], "ml-100k")
    log = pq.read_table(folder / "interactions.parquet")
    names = ("user_id", "item_id", "rating", "timestamp")
    rows = zip(*(log[name].to_pylist() for name in names), strict=True)
    text = "".join("\t".join(str(int(value)) for value in row) + "\n" for row in rows)
    assert len(text) == 1_979_173  # bytes of the published u.data
    events, _ = prepared("movie_lens/100k", FORMATS["100k"] | {"u.data": text})
    assert events.num_rows == 100_000
    assert pc.sum(events["dislike"]).as_py() == 17_480
    assert events["item_id"].to_pylist() == log["item_id"].to_pylist()
