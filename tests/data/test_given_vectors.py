"""The column `item_vector` of an item table: what is read, refused, stored and carried over."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from negflax.data import Catalogue
from negflax.data.catalogue import build_catalogue
from negflax.data.cells import DataError
from negflax.data.data_report import item_table_report
from negflax.data.event_files import read_items
from negflax.data.schema import validate_items
from negflax.data.vocabulary_growth import grow

VECTORS = [[1.0, 2.0], None, [0.5, -1.0]]


def items(vectors=VECTORS, ids=(10, 20, 30), kind=None):
    return pa.table({"item_id": list(ids), "item_vector": pa.array(vectors, kind)})


def catalogue(vectors=VECTORS, ids=(10, 20, 30), kind=None):
    table = validate_items(items(vectors, ids, kind), "items.parquet")
    return build_catalogue(np.array(sorted(ids)), pa.table({"item_id": list(ids)}), table)


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float64()),
        pa.list_(pa.float32()),
        pa.list_(pa.float32(), 2),
        pa.large_list(pa.float32()),
    ],
)
def test_lists_become_rows_and_unknown_ones_zeros(kind, tmp_path):
    pq.write_table(items(kind=kind), tmp_path / "items.parquet")
    table = read_items(str(tmp_path / "items.parquet"))
    built = build_catalogue(np.array([10, 15, 30]), pa.table({"item_id": [10, 15, 30]}), table)
    expected = np.array([[0, 0], [1, 2], [0, 0], [0.5, -1]], np.float32)
    np.testing.assert_array_equal(built.vector_VW, expected)
    assert built.vector_VW.dtype == np.float32
    assert item_table_report("items", built, table)["items_without_vector"] == 1
    built.save(tmp_path / "catalogue.npz")
    np.testing.assert_array_equal(Catalogue.load(tmp_path / "catalogue.npz").vector_VW, expected)
    moved = built.reordered(np.array([2, 0, 1]))
    np.testing.assert_array_equal(moved.vector_VW, expected[[0, 3, 1, 2]])


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, 2.0], [1.0], None], "row 1: a list of 1 values, row 0 has 2"),
        ([None, [], [1.0]], "row 1: a list of 0 values"),
        ([None, [1.0, float("nan")], None], "row 1: nan in the list"),
        ([[1.0, 2.0], None, [float("inf"), 0.0]], "row 2: inf in the list"),
        ([[1.0, None], None, [1.0, 2.0]], "row 0: None in the list"),
        (["a", "b", None], "values of type string"),
        ([["a"], None, None], "values of type list<"),
        ([1.0, 2.0, 3.0], "values of type double"),
    ],
)
def test_what_is_no_vector_is_refused(vectors, message):
    with pytest.raises(DataError, match=r"items.parquet: column `item_vector`") as caught:
        validate_items(items(vectors), "items.parquet")
    assert message in str(caught.value)


def test_a_column_without_any_vector_is_refused():
    with pytest.raises(DataError, match="no item has a vector"):
        validate_items(items([None] * 3, kind=pa.list_(pa.float32())), "items.parquet")


def test_a_growing_catalogue_takes_the_vectors_of_new_items():
    known = dataclasses.replace(catalogue(), reserved_rows=2)
    day = catalogue([[7.0, 7.0], [9.0, 9.0], None], (20, 40, 30))
    grown = grow(known, day, 0)
    expected = np.array([[0, 0], [1, 2], [7, 7], [0.5, -1], [9, 9]], np.float32)
    np.testing.assert_array_equal(grown.vector_VW, expected)
    plain = dataclasses.replace(day, vector_VW=None)
    np.testing.assert_array_equal(grow(known, plain, 0).vector_VW[1:4], known.vector_VW[1:])
    with pytest.raises(DataError, match="of the same model"):
        grow(known, catalogue([[1.0]], (40,)), 0)
