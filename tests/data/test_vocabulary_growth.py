"""Catalogues that take in new items, against dictionaries of what is known of each item."""

import dataclasses
import logging

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.data import Catalogue, DataError, grow
from negflax.data.catalogue import build_catalogue


def catalogue_of(described, reserved=0):
    """{item: (creator, clusters, title)} → a catalogue of them."""
    ids = sorted(described)
    creators, clusters, titles = zip(*[described[i] for i in ids], strict=True)
    items = pa.table(
        {
            "item_id": pa.array(ids),
            "creator_id": pa.array(creators, pa.int64()),
            "cluster_ids": pa.array(clusters, pa.list_(pa.string())),
            "title": pa.array(titles),
        }
    )
    built = build_catalogue(np.array(ids), items.select(["item_id"]), items)
    return dataclasses.replace(built, reserved_rows=reserved)


def described_by(catalogue):
    """The way back, from the numbers of creators and clusters."""
    found = {}
    for row, item in enumerate(catalogue.item_ids.tolist(), start=1):
        creator, clusters = catalogue.creator_V[row], catalogue.clusters_VC[row]
        found[item] = (
            int(catalogue.creator_ids[creator - 1]) if creator else None,
            catalogue.cluster_ids[clusters[clusters > 0] - 1].tolist(),
            str(catalogue.titles[row]),
        )
    return found


ITEMS = st.dictionaries(
    st.integers(0, 12),
    st.tuples(
        st.none() | st.integers(0, 5),
        st.lists(st.sampled_from("abcd"), max_size=3, unique=True),
        st.sampled_from(["", "one", "another title"]),
    ),
    min_size=1,
)


@settings(max_examples=100, deadline=None)
@given(ITEMS, ITEMS, st.integers(0, 15))
def test_growth_is_a_union_in_which_new_attributes_replace_old_ones(old, new, reserved):
    known, day = catalogue_of(old, reserved), catalogue_of(new)
    grown = grow(known, day, 5)
    expected = dict(old)
    for item, told in new.items():
        before = old.get(item, (None, [], ""))
        expected[item] = tuple(x or y if x != 0 else x for x, y in zip(told, before, strict=True))
    assert described_by(grown) == expected
    # Known items, creators and clusters keep their numbers, new items follow in order.
    assert grown.item_ids.tolist() == [*sorted(old), *sorted(set(new) - set(old))]
    for name in ("creator_ids", "cluster_ids"):
        before = getattr(known, name)
        assert getattr(grown, name)[: len(before)].tolist() == before.tolist()
    fresh = len(set(new) - set(old))
    assert grown.reserved_rows == (reserved - fresh if fresh <= reserved else 5)
    assert (grown.table_rows == known.table_rows) == (fresh <= reserved or 5 == reserved - fresh)


def test_a_new_item_takes_the_last_reserved_row_and_another_grows_the_table(caplog):
    known = catalogue_of({1: (1, ["a"], ""), 2: (2, [], "two")}, reserved=1)
    with caplog.at_level(logging.WARNING):
        full = grow(known, catalogue_of({7: (2, ["b"], "")}), 4)
    assert (full.num_rows, full.reserved_rows, full.table_rows) == (4, 0, known.table_rows)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        larger = grow(full, catalogue_of({7: (2, ["b"], ""), 8: (3, [], ""), 9: (3, [], "")}), 4)
    assert (larger.num_rows, larger.table_rows) == (6, 10)
    assert larger.rows([1, 2, 7, 8, 9]).tolist() == [1, 2, 3, 4, 5]
    assert "but only 0 reserved rows are left: the tables grow from 4 to 10" in caplog.text


def test_reserved_rows_are_saved_and_stay_behind_reordered_items(tmp_path):
    known = catalogue_of({1: (1, ["a"], ""), 2: (2, [], "two")}, reserved=3)
    known.save(tmp_path / "catalogue.npz")
    loaded = Catalogue.load(tmp_path / "catalogue.npz")
    assert loaded.reserved_rows == 3 and described_by(loaded) == described_by(known)
    moved = known.reordered(np.array([1, 0]))
    assert moved.table_rows == known.table_rows and described_by(moved) == described_by(known)
    with pytest.raises(DataError, match="rows 1 to 2"):
        known.ids([3])  # a reserved row is no item


def test_text_ids_beside_numbers():
    known = catalogue_of({7: (1, [], ""), 2: (2, [], "two")}, reserved=3)
    day_ids = np.array(["02", "2", "a"])
    day = build_catalogue(day_ids, pa.table({"item_id": day_ids}), None)
    grown = grow(known, day, 3)
    assert grown.item_ids.tolist() == ["2", "7", "02", "a"]
    assert grown.rows([7, 2]).tolist() == grown.rows(["7", "2"]).tolist() == [2, 1]
    assert grow(grown, known, 3).item_ids.tolist() == grown.item_ids.tolist()


def test_catalogues_that_cannot_be_joined():
    known = catalogue_of({1: (1, [], "")}, reserved=3)
    old = dataclasses.replace(known, creator_ids=None)
    with pytest.raises(DataError, match="no ids of creators.*reserved_items = 0, or train"):
        grow(old, catalogue_of({2: (1, [], "")}), 3)


def test_creators_that_become_text_are_the_same_creators():
    known = catalogue_of({1: (17, [], "")}, reserved=1)
    events = pa.table({"item_id": [2, 1], "creator_id": ["17", "x"]})
    grown = grow(known, build_catalogue(np.array([1, 2]), events, None), 1)
    assert grown.creator_ids.tolist() == ["17", "x"]
    assert grown.creator_V.tolist() == [0, 2, 1]
