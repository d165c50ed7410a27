"""Ids ↔ rows, creators and clusters, and the file."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.data import Catalogue, DataError
from negflax.data.catalogue import build_catalogue, spread
from negflax.data.event_files import read_table
from negflax.data.schema import validate, validate_items


def events(**columns):
    return pa.table({"user_id": [1, 1, 1], "item_id": [30, 10, 30], "pos": [0, 1, 2], **columns})


def test_rows_and_ids_are_inverse():
    catalogue = build_catalogue(np.array([10, 20, 30]), events(), None)
    assert catalogue.num_rows == 4
    assert catalogue.rows([30, 10, 15, 99, -1]).tolist() == [3, 1, 0, 0, 0]
    assert catalogue.rows([[10], [20]]).shape == (2, 1)
    assert catalogue.rows([]).tolist() == []
    assert catalogue.ids([3, 1]).tolist() == [30, 10]
    for row in (0, 4, -1):
        with pytest.raises(DataError, match="rows 1 to 3"):
            catalogue.ids([1, row])
    text = ["10", "10.0", "010", " 10", "10.5", "x", "-1", "9" * 19, "٣٠"]
    assert catalogue.rows(text).tolist() == [1, 1] + 7 * [0]


def test_text_ids():
    catalogue = build_catalogue(np.array(["a", "b"]), events(item_id=["a", "b", "b"]), None)
    assert catalogue.rows(np.array(["b", "a longer one"], object).astype(str)).tolist() == [2, 0]
    assert catalogue.ids([1]).tolist() == ["a"]
    assert build_catalogue(np.array(["1", "b"]), events(), None).rows([1, 2]).tolist() == [1, 0]


def test_text_ids_of_earlier_versions_are_the_integers_they_mean():
    catalogue = build_catalogue(np.array(["1.0", "10.0", "b"]), events(), None)
    for ids in ([1, 10, 3], ["1", "10.00", "b.0"], [1.0, 10.0, 1.5]):
        assert catalogue.rows(ids).tolist() == [1, 2, 0]
    assert catalogue.rows(catalogue.item_ids).tolist() == [1, 2, 3]
    shared = dataclasses.replace(catalogue, bucket_rows=50)
    assert len(set(shared.buckets(np.array(["77.0", "77"])))) == 1


def test_items_describe_and_events_fill_in():
    items = pa.table(
        {
            "item_id": [20, 10, 99],
            "creator_id": ["x", None, "unseen"],
            "cluster_ids": [["s", "r"], [], ["t"]],
            "title": ["twenty", None, "ninety-nine"],
        }
    )
    log = pa.table(
        {
            "item_id": [30, 10, 30, 20],  # of 30 the first event counts, of 20 the item table
            "creator_id": ["y", "x", "z", "y"],
            "cluster_ids": ["r", None, "s", "r"],
        }
    )
    catalogue = build_catalogue(np.array([10, 20, 30]), log, items)
    x, y = catalogue.creator_V[2], catalogue.creator_V[3]
    assert catalogue.creator_V.tolist() == [0, x, x, y] and len({0, x, y}) == 3
    r = catalogue.clusters_VC[3, 0]
    assert catalogue.clusters_VC.shape == (4, 2)
    assert catalogue.clusters_VC[2, 1] == r and catalogue.clusters_VC[2, 0] not in (0, r)
    assert catalogue.clusters_VC[1].tolist() == [0, 0]
    assert (catalogue.num_creators, catalogue.num_clusters) == (3, 3)
    assert catalogue.titles.tolist() == ["", "", "twenty", ""]


def test_nothing_is_known():
    catalogue = build_catalogue(np.array([10]), events(), None)
    assert catalogue.creator_V.tolist() == [0, 0]
    assert catalogue.clusters_VC.tolist() == [[0], [0]]
    assert catalogue.titles is None
    assert (catalogue.num_creators, catalogue.num_clusters) == (1, 1)


GENRES = ["Action|Comedy", "Comedy | Drama|Comedy", "", "Sci-Fi"]


def names(catalogue, row):
    return [str(catalogue.cluster_ids[c - 1]) for c in catalogue.clusters_VC[row] if c]


def test_genres_of_a_csv_file_are_a_list(tmp_path):
    ids, log = np.array(["10", "20", "30", "40"]), events(item_id=["10", "20", "10"])
    lines = [f"{10 * (i + 1)},{genres}" for i, genres in enumerate(GENRES)]
    path = tmp_path / "items.csv"
    path.write_text("\n".join(["item_id,cluster_ids", *lines]))
    items = validate_items(read_table(path), "items")
    catalogue = build_catalogue(ids, log, items)
    expected = [["Action", "Comedy"], ["Comedy", "Drama"], [], ["Sci-Fi"]]
    assert [names(catalogue, row) for row in range(1, 5)] == expected
    assert catalogue.num_clusters == 5  # four names and "unknown", not one for each combination
    lists = pa.table({"item_id": ids, "cluster_ids": expected})
    same = build_catalogue(ids, log, validate_items(lists, "items"))
    assert np.array_equal(same.clusters_VC, catalogue.clusters_VC)


def test_genres_of_events_are_a_list():
    log, _ = validate(events(cluster_ids=["b|a", None, "c"]), "log")
    catalogue = build_catalogue(np.array([10, 30]), log, None)
    assert [names(catalogue, row) for row in (1, 2)] == [[], ["b", "a"]]


def test_a_catalogue_of_an_earlier_version_still_loads(tmp_path):
    catalogue = build_catalogue(np.array([10]), events(item_id=[10, 10, 10]), None)
    old = {name: x for name, x in vars(catalogue).items() if x is not None}
    del old["creator_ids"], old["cluster_ids"], old["bucket_rows"]
    np.savez(tmp_path / "catalogue.npz", **old)
    loaded = Catalogue.load(tmp_path / "catalogue.npz")
    assert loaded.cluster_ids is None and loaded.bucket_rows == 0
    assert np.array_equal(loaded.clusters_VC, catalogue.clusters_VC)


@pytest.mark.parametrize("titles", [None, np.array(["", "α"])])
@pytest.mark.parametrize("ids", [np.array([7]), np.array(["seven"])])
def test_save_and_load(tmp_path, ids, titles):
    counts = np.array([0, 5])
    saved = Catalogue(ids, np.zeros(2, np.int32), np.zeros((2, 1), np.int32), counts, titles)
    path = tmp_path / "vocabulary.npz"
    saved.save(path)
    loaded = Catalogue.load(path)
    for name, value in vars(saved).items():
        assert np.array_equal(getattr(loaded, name), value), name
    assert [file.name for file in tmp_path.iterdir()] == ["vocabulary.npz"]


def test_a_cut_file_is_named(tmp_path):
    path = tmp_path / "vocabulary.npz"
    build_catalogue(np.arange(100), events(), None).save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"vocabulary\.npz"):
        Catalogue.load(path)


def test_reordered_items_keep_their_ids_and_attributes(tmp_path):
    plain = Catalogue(
        item_ids=np.array([10, 20, 30]),
        creator_V=np.array([0, 1, 2, 1], np.int32),
        clusters_VC=np.array([[0], [3], [2], [1]], np.int32),
        train_count_V=np.array([0, 5, 6, 7]),
        titles=np.array(["", "a", "b", "c"]),
    )
    moved = plain.reordered(np.array([2, 0, 1]))
    np.testing.assert_array_equal(moved.item_ids, [30, 10, 20])
    np.testing.assert_array_equal(moved.rows([10, 20, 30, 25]), [2, 3, 1, 0])
    for name in ("creator_V", "train_count_V", "titles"):
        np.testing.assert_array_equal(
            getattr(moved, name)[moved.rows([10, 20, 30])],
            getattr(plain, name)[plain.rows([10, 20, 30])],
        )
    assert moved.fingerprint != plain.fingerprint
    moved.save(tmp_path / "catalogue.npz")
    again = Catalogue.load(tmp_path / "catalogue.npz")
    np.testing.assert_array_equal(again.rows([10, 20, 30, 25]), [2, 3, 1, 0])


@pytest.mark.parametrize("shards", [2, 3, 8, 64])
def test_spread_rows_share_popular_items_among_any_number_of_shards(shards):
    rng, n = np.random.default_rng(0), 10_000
    count_I = rng.permutation(1e6 / np.arange(1, n + 1))
    order_I = spread(count_I)
    np.testing.assert_array_equal(np.sort(order_I), np.arange(n))
    for most in (640, 5_000, n):
        popular = count_I[order_I] >= np.sort(count_I)[-most]
        by_shard = [block.sum() for block in np.array_split(popular, shards)]
        assert max(by_shard) - min(by_shard) <= 4


def test_spread_of_few_items():
    for n in range(4):
        np.testing.assert_array_equal(np.sort(spread(np.ones(n))), np.arange(n))


@settings(deadline=None, max_examples=60)
@given(
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=3),
)
def test_a_damaged_file_is_told_and_never_read_wrong(cut, flips):
    whole = build_catalogue(np.array([10, 20, 30]), events(), None)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "catalogue.npz")
        whole.save(path)
        data = bytearray(path.read_bytes())
        for place, bits in flips:
            data[int(place * len(data))] ^= bits
        path.write_bytes(data[: round((1 - cut / 2) * len(data))])
        try:
            found = Catalogue.load(path)
        except DataError as error:
            assert "catalogue.npz is" in str(error) and "delete it" in str(error)
        else:
            assert found.item_ids.tolist() == [10, 20, 30]
            np.testing.assert_array_equal(found.creator_V, whole.creator_V)
