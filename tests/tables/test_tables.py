import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax import tables
from negflax.config import MeshConfig
from negflax.mesh import AXES, COPIED, SPLIT, make_mesh

V, D = 21, 3


def mesh_of(devices, table=1):
    return make_mesh(MeshConfig(table=table), jax.devices()[:devices])


@pytest.mark.parametrize(("devices", "table"), [(1, 1), (8, 1), (8, 4), (8, 2)])
def test_rows_start_equal_and_are_gathered_from_any_mesh(devices, table):
    mesh = mesh_of(devices, table)
    spec = tables.TableSpec(V, D, 0.5, bias=True)
    rows = tables.init_rows(jax.random.key(0), spec, mesh, "float32")
    assert len(rows.addressable_shards) == devices and len(rows) % devices == 0
    one = tables.init_rows(jax.random.key(0), spec, mesh_of(1), "float32")
    np.testing.assert_array_equal(rows[:V], one)
    np.testing.assert_array_equal(one[:, -1], 0)

    ids = jnp.array([0, 5, V - 1, 5, 100, -3], jnp.int32)
    gather = jax.jit(
        jax.shard_map(
            tables.gather, mesh=mesh, check_vma=False, in_specs=(SPLIT, COPIED), out_specs=COPIED
        )
    )
    found = np.asarray(gather(rows, ids))
    np.testing.assert_array_equal(found[:4], np.asarray(one)[[0, 5, V - 1, 5]])
    np.testing.assert_array_equal(found[4:], 0)  # outside the table: never silently row 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-3, V + 3), min_size=12, max_size=12))
def test_distinct_ids_and_their_places(ids):
    ids_U, index = tables.distinct(jnp.array(ids, jnp.int32), V)
    known = np.where((np.array(ids) >= 0) & (np.array(ids) < V), ids, V)
    expected = np.full(12, V)
    expected[: len(np.unique(known))] = np.unique(known)
    np.testing.assert_array_equal(ids_U, expected)
    np.testing.assert_array_equal(ids_U[index], known)


def test_distinct_is_no_longer_than_the_table():
    ids_U, index = tables.distinct(jnp.arange(-10, 990, dtype=jnp.int32), V)
    np.testing.assert_array_equal(ids_U, np.arange(V + 1))
    assert len(index) == 1000
    assert [len(x) for x in tables.distinct(jnp.zeros(0, jnp.int32), V)] == [0, 0]


def test_axes_cover_the_mesh():
    assert mesh_of(8, 4).axis_names == AXES
