"""Conversions of columns."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.data.columns import factorize, flat, runs, stable_order


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 9), max_size=60))
def test_radix_order_is_a_stable_sort(codes):
    codes = np.array(codes, np.int64)
    assert np.array_equal(stable_order(codes), np.argsort(codes, kind="stable"))


@settings(deadline=None)
@given(st.lists(st.sampled_from(["b", "a", "", "é"]), max_size=30))
def test_runs_number_sorted_ids_as_factorize_does(ids):
    column = pa.array(sorted(ids), pa.string())
    for one, other in zip(runs(column), factorize(column), strict=True):
        assert np.array_equal(one, other)


def test_dictionaries_of_any_text_are_decoded():
    for words in (pa.array(["a", None]), pa.array(["a", None]).cast(pa.string_view())):
        column = pa.DictionaryArray.from_arrays(pa.array([1, 0, None, 0]), words)
        assert flat(column).equals(pa.array([None, "a", None, "a"]))
        assert flat(pa.chunked_array([column, column])).to_pylist() == 2 * [None, "a", None, "a"]
