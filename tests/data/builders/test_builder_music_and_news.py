"""KuaiRec, Yambda and MIND from files in their original formats."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.data import DataError

pytest.importorskip("tensorflow_datasets", reason="needs the extra `tfds`")
import tensorflow_datasets as tfds  # noqa: E402

from negflax.data.builders.prepared import open_prepared  # noqa: E402
from negflax.data.builders.yambda import _stands  # noqa: E402

MATRIX = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"
KUAIREC = {
    "KuaiRec 2.0/data/big_matrix.csv": MATRIX
    + "0,3649,13838,10867,2020-07-05 00:08:23.438,20200705,1593878903.438,1.273396521579092\n"
    + "0,9598,0,0,2020-07-05 00:13:41.297,20200705,1593879221.297,0.0\n",
    "KuaiRec 2.0/data/small_matrix.csv": MATRIX
    + "14,148,4381,6067,2020-07-05 05:27:48.378,20200705,1593898068.378,0.72\n"
    + "14,183,11635,6100,,,,1.907\n",
    "KuaiRec 2.0/data/item_categories.csv": 'video_id,feat\n0,[8]\n1,"[27, 9]"\n2,[]\n',
}


def test_kuairec(prepared, tmp_path):
    events, items = prepared("kuairec/full", KUAIREC)
    assert events["timestamp_ms"].to_pylist() == [1593878903438, 1593879221297]
    assert events["duration_ms"].to_pylist() == [10867, None]
    assert events["watch_ratio"].to_pylist() == [1.273396521579092, 0.0]
    assert items["cluster_ids"].to_pylist() == [["8"], ["27", "9"], None]
    small, _ = open_prepared("kuairec/full", tmp_path / "data", ["small"])
    assert small["dwell_ms"].to_pylist() == [4381]
    info = tfds.builder("kuairec/full", data_dir=tmp_path / "data").info
    assert info.metadata["left_out"] == {"rows without a time": 1}


def parquet(**columns):
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def actions(*rows):
    uid, item, time = (pa.array(c, pa.uint32()) for c in zip(*rows, strict=True))
    organic = pa.array(np.zeros(len(uid)), pa.uint8())
    return parquet(uid=uid, timestamp=time, item_id=item, is_organic=organic)


def yambda(**changes):
    files = {
        "listens": parquet(
            uid=pa.array([1, 2], pa.uint32()),
            timestamp=pa.array([5, 10], pa.uint32()),
            item_id=pa.array([7, 8], pa.uint32()),
            is_organic=pa.array([1, 0], pa.uint8()),
            played_ratio_pct=pa.array([50, 110], pa.uint16()),
            track_length_seconds=pa.array([200, 60], pa.uint32()),
        ),
        "likes": actions((1, 7, 20), (1, 8, 30)),
        "dislikes": actions((2, 7, 5), (2, 7, 50), (2, 8, 5), (1, 8, 40)),
        "unlikes": actions((1, 7, 20)),
        "undislikes": actions((2, 7, 10), (1, 8, 100), (2, 9, 1)),
    }
    files = {f"flat/50m/{kind}.parquet": content for kind, content in (files | changes).items()}
    mapping = parquet(artist_id=pa.array([5, 6, 7]), item_id=pa.array([8, 7, 8]))
    return files | {"artist_mapping.parquet": mapping}


def test_yambda(prepared, tmp_path):
    events, items = prepared("yambda/50m", yambda())
    rows = [
        (e["user_id"], e["item_id"], e["timestamp_ms"], e["like"], e["dislike"], e["dwell_ms"])
        for e in events.to_pylist()
    ]
    assert rows == [
        (1, 7, 5_000, None, None, 100_000),
        (2, 8, 10_000, None, None, 66_000),
        (1, 8, 30_000, True, None, None),
        (2, 7, 50_000, None, True, None),
        (2, 8, 5_000, None, True, None),
    ]
    assert events["organic"].to_pylist()[:2] == [True, False]
    assert items.select(["item_id", "creator_id"]).to_pydict() == {
        "item_id": [8, 7],
        "creator_id": [5, 6],
    }
    info = tfds.builder("yambda/50m", data_dir=tmp_path / "data").info
    assert info.metadata["left_out"] == {"likes taken back": 1, "dislikes taken back": 2}


def test_yambda_in_one_file(prepared):
    files = yambda()
    expected, _ = prepared("yambda/50m", files)
    tables = []
    for kind in ("listens", "likes", "dislikes", "unlikes", "undislikes"):
        table = pq.read_table(io.BytesIO(files[f"flat/50m/{kind}.parquet"]))
        names = pa.array([kind.removesuffix("s")] * table.num_rows).dictionary_encode()
        tables.append(table.append_column("event_type", names))
    out = io.BytesIO()
    pq.write_table(pa.concat_tables(tables, promote_options="default"), out)
    found, items = prepared("yambda/50m_multi", {"flat/50m/multi_event.parquet": out.getvalue()})
    assert found == expected and items.num_rows == 2


ACTION = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 4))


@settings(max_examples=100, deadline=None)
@given(st.lists(ACTION, min_size=1, max_size=12), st.lists(ACTION, max_size=8))
def test_a_dislike_counts_unless_it_is_revoked_later(given_rows, undone_rows):
    def table(rows):
        names = ("uid", "item_id", "timestamp")
        return pa.table(
            {n: pa.array([r[i] for r in rows], pa.int64()) for i, n in enumerate(names)}
        )

    expected = [
        not any((u, i) == (user, item) and t >= time for u, i, t in undone_rows)
        for user, item, time in given_rows
    ]
    assert _stands(table(given_rows), table(undone_rows)).tolist() == expected


def test_bad_parquet(prepared):
    with pytest.raises(DataError, match="likes.parquet cannot be read, it may be cut short"):
        prepared("yambda/50m", yambda(likes=actions((1, 2, 3))[:-20]))
    with pytest.raises(
        DataError, match="dislikes.parquet: column `uid` is missing; the file has x"
    ):
        prepared("yambda/50m", yambda(dislikes=parquet(x=[1])))
    wrong = parquet(uid=["a"], timestamp=[1], item_id=[1], is_organic=[1])
    with pytest.raises(DataError, match="undislikes.parquet: column `uid`: .*'a'.*; write int64"):
        prepared("yambda/50m", yambda(undislikes=wrong))


NEWS = 'N1\tsports\tsoccer\tA "title"\tabstract\thttps://x\t[]\t[]\n'
MIND = {
    "MINDsmall_train/behaviors.tsv": "1\tU8\t11/11/2019 9:05:58 AM\tN9 N8\tN1-0 N2-1\n"
    "2\tU9\t11/12/2019 12:00:00 PM\t\tN2-0\n",
    "MINDsmall_dev/behaviors.tsv": "1\tU8\t11/15/2019 8:00:00 PM\tN9\tN1-1\n",
    "MINDsmall_train/news.tsv": NEWS,
    "MINDsmall_dev/news.tsv": NEWS + "N2\tnews\tworld\tB\t\thttps://x\t[]\t[]\n",
}


def test_mind(prepared):
    events, items = prepared("mind/small", MIND)
    rows = [
        tuple(e[n] for n in ("user_id", "item_id", "click", "split")) for e in events.to_pylist()
    ]
    assert rows == [
        ("U8", "N1", False, "train"),
        ("U8", "N2", True, "train"),
        ("U9", "N2", False, "train"),
        ("U8", "N1", True, "valid"),
    ]
    assert events["timestamp_ms"].to_pylist()[1:3] == [1573463158000, 1573560000000]
    assert items.select(["item_id", "cluster_ids", "title"]).to_pylist() == [
        {"item_id": "N1", "cluster_ids": ["sports", "soccer"], "title": 'A "title"'},
        {"item_id": "N2", "cluster_ids": ["news", "world"], "title": "B"},
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3\tU1\t2019-11-11\tN1\tN2-0\n", "column `time`, row 2: 2019-11-11 is not a time such as"),
        ("3\tU1\t11/11/2019 9:05:58 AM\tN1\tN2-1 N3\n", "column `shown`, row 2: N3 is not an item"),
        ("3\tU1\t11/11/2019 9:0", "row 2: Expected 5 columns, got 3"),
    ],
)
def test_bad_behaviors(prepared, line, message):
    name = "MINDsmall_train/behaviors.tsv"
    with pytest.raises(DataError, match=f"{name}: {message}"):
        prepared("mind/small", MIND | {name: MIND[name] + line})


def test_one_part_is_not_both(prepared):
    with pytest.raises(DataError, match="have the same name, and only one file of it is in"):
        prepared("mind/small", {"behaviors.tsv": "", "news.tsv": ""})
