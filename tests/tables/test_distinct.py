import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax import tables

distinct = jax.jit(tables.distinct, static_argnums=1)


def check(ids, num_rows):
    ids_U, index = map(np.asarray, distinct(jnp.asarray(ids, jnp.int32), num_rows))
    known = np.where((ids >= 0) & (ids < num_rows), ids, num_rows)
    expected = np.unique(known)
    np.testing.assert_array_equal(ids_U[: len(expected)], expected)
    np.testing.assert_array_equal(ids_U[len(expected) :], num_rows)
    np.testing.assert_array_equal(ids_U[index], known)
    assert len(ids_U) == min(len(ids), num_rows + 1)


@pytest.mark.parametrize("num_rows", [21, 2**31 - 2])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_ids(num_rows, data):
    few = st.integers(-3, 24) | st.integers(num_rows - 3, 2**31 - 1) | st.integers(-(2**31), 0)
    check(np.array(data.draw(st.lists(few, min_size=12, max_size=12))), num_rows)


def test_no_longer_than_the_table_and_no_shorter_than_nothing():
    check(np.arange(-10, 990), 21)
    assert [len(x) for x in distinct(jnp.zeros(0, jnp.int32), 21)] == [0, 0]


def test_no_array_of_the_tables_size():
    compiled = distinct.lower(jnp.zeros(1000, jnp.int32), 10**9).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 200_000
