import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax import tables
from negflax.config import MeshConfig
from negflax.mesh import AXES, COPIED, SPLIT, make_mesh
from negflax.tables import updates

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
@given(st.lists(st.integers(0, V - 1), min_size=12, max_size=12))
def test_distinct_ids_and_their_places(ids):
    ids_U, index = tables.distinct(jnp.array(ids, jnp.int32), V)
    ids_U = np.asarray(ids_U)
    np.testing.assert_array_equal(ids_U[index], ids)
    real = ids_U[ids_U < V]
    np.testing.assert_array_equal(real, np.unique(ids))
    assert (ids_U[len(real) :] == V).all()


def test_distinct_is_no_longer_than_the_table():
    ids_U, index = tables.distinct(jnp.zeros(1000, jnp.int32), V)
    assert len(ids_U) == V + 1 and len(index) == 1000


def reference(name, rows, gradient_steps, rate, start):
    """The optimizers in float64 on dense gradients; rows without gradient stay put."""
    rows = np.float64(rows)
    total = np.full(V if name == "rowwise_adagrad" else (V, D), start)
    for ids, gradients in gradient_steps:
        dense = np.zeros((V, D))
        np.add.at(dense, ids, gradients)
        touched = np.zeros(V, bool)
        touched[ids] = True
        if name == "sgd":
            rows[touched] -= rate * dense[touched]
            continue
        square = dense**2 if name == "adagrad" else (dense**2).mean(1)
        total[touched] += square[touched]
        scale = 1 / np.sqrt(total + updates.EPSILON)
        scale = scale if name == "adagrad" else scale[:, None]
        rows[touched] -= (rate * dense * scale)[touched]
    return rows


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("name", ["sgd", "adagrad", "rowwise_adagrad"])
def test_row_optimizers_against_float64_with_duplicates(name, devices):
    mesh, optimizer = mesh_of(devices), updates.get(name, 0.01)
    rng = np.random.default_rng(0)
    steps = [(rng.integers(0, V, 10), rng.normal(size=(10, D))) for _ in range(30)]

    def on_device(rows, slots, ids, gradients):
        ids_U, index = tables.distinct(ids, V)
        merged = jnp.zeros((len(ids_U), D)).at[index].add(gradients)
        place = tables.scatter_index(rows, ids_U)
        return updates.apply(optimizer, rows, slots, place, merged, 0.1)

    spec = tables.TableSpec(V, D, 1.0)
    rows = tables.init_rows(jax.random.key(1), spec, mesh, "float32")
    slots = jax.jit(optimizer.init)(rows)
    expected = reference(name, np.asarray(rows)[:V], steps, 0.1, 0.01)
    step = jax.jit(
        jax.shard_map(
            on_device, mesh=mesh, check_vma=False, in_specs=(SPLIT, SPLIT, COPIED, COPIED),
            out_specs=(SPLIT, SPLIT),
        )
    )  # fmt: skip
    for ids, gradients in steps:
        rows, slots = step(rows, slots, jnp.int32(ids), jnp.float32(gradients))
    np.testing.assert_allclose(rows[:V], expected, rtol=2e-5, atol=2e-5)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((rows, slots)))


def test_an_unknown_optimizer_is_named():
    with pytest.raises(ValueError, match="choose from"):
        updates.get("adamax", 0.0)


def test_axes_cover_the_mesh():
    assert mesh_of(8, 4).axis_names == AXES
