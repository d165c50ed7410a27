import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


def test_axes_cover_the_mesh():
    assert mesh_of(8, 4).axis_names == AXES
