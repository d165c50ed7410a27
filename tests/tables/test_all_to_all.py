import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec

from negflax import tables
from negflax.config import MeshConfig
from negflax.mesh import AXES, SPLIT, make_mesh
from negflax.tables import all_to_all, lookup

DEVICES, ROWS, D = 8, 160, 3
BOTH = ("data", "table")


@functools.lru_cache
def program(axes, ids):
    """Jitted (table, ids (8·K,), gradients) → rows, summed gradients of all rows, norm², rounds."""
    mesh = make_mesh(MeshConfig(table=2), jax.devices()[:DEVICES])
    copies = tuple(axis for axis in AXES if axis not in axes)

    def on_device(shard, ids_K, gradient_KD):
        nowhere = len(shard) * lax.axis_size(axes)
        ids_U, place_K = tables.distinct(ids_K, nowhere)
        way = all_to_all.route(ids_U, len(shard), axes, AXES)
        rows = all_to_all.fetch(shard, way, axes)
        gradient = jnp.zeros((len(ids_U), D)).at[place_K].add(gradient_KD)

        def arrivals(i):
            return all_to_all.send_back(gradient, way, i, len(shard), axes, copies)

        merged = all_to_all.merge(arrivals, way.rounds, len(shard))
        apply = lambda table, place, g: table.at[place].add(g, mode="drop")  # noqa: E731
        summed = lookup.update(merged, jnp.zeros_like(shard), apply)
        return rows[place_K], summed, lax.psum(merged.square, axes)[None], way.rounds[None]

    rows_spec = PartitionSpec(axes)
    return jax.jit(
        jax.shard_map(
            on_device,
            mesh=mesh,
            check_vma=False,
            in_specs=(rows_spec, SPLIT, SPLIT),
            out_specs=(SPLIT, rows_spec, SPLIT, SPLIT),
        )
    )


@pytest.mark.parametrize("axes", [BOTH, ("table",), ("data",)], ids="+".join)
@pytest.mark.parametrize("law", ["uniform", "one shard", "one row", "outside"])
def test_rows_and_gradients_go_to_their_owners_and_back(axes, law):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(ROWS, D)).astype(np.float32)
    ids = {
        "uniform": rng.integers(0, ROWS, 8 * 24),
        "one shard": rng.integers(0, 20, 8 * 24),  # more than a bucket holds: several rounds
        "one row": np.full(8 * 24, 7),
        "outside": rng.choice([-1, -ROWS, ROWS, 2**31 - 1, 3], 8 * 24),
    }[law].astype(np.int32)
    gradients = rng.normal(size=(len(ids), D)).astype(np.float32)
    rows, summed, square, rounds = program(axes, 24)(table, ids, gradients)

    inside = (ids >= 0) & (ids < ROWS)
    expected = np.where(inside[:, None], table[np.where(inside, ids, 0)], 0)
    np.testing.assert_array_equal(rows, expected)
    dense = np.zeros((ROWS, D))
    np.add.at(dense, ids[inside], gradients[inside].astype(np.float64))
    np.testing.assert_allclose(summed, dense, atol=2e-5)
    np.testing.assert_allclose(square, np.sum(dense**2), rtol=1e-5)
    several = law == "one shard" and axes != ("table",)  # 2 shards: a bucket holds all ids
    assert (np.asarray(rounds) > 1).all() if several else (np.asarray(rounds) == 1).all()


def test_the_form_that_costs_less():
    # Little to move: fewer collectives.
    assert all_to_all.form("auto", 1000, 0, 100, 256, 256, 8) == "psum"
    # Much: 8 devices' rows to everyone against each one's own.
    assert all_to_all.form("auto", 1000, 0, 10**7, 256, 256, 8) == "all_to_all"
    assert (
        all_to_all.form("auto", 1000, 500, 10**7, 256, 256, 1) == "psum"
    )  # nothing moves on one device
    assert all_to_all.form("psum", 1000, 0, 10**7, 256, 256, 8) == "psum"


@pytest.mark.parametrize(("form", "low", "high"), [("all_to_all", 1, 1.02), ("psum", 1.9, 2.1)])
def test_bytes_grow_with_the_rows_asked_for_or_with_the_devices(form, low, high):
    some, twice = (
        sum(all_to_all.moved_bytes(form, 1000, 0, 10**9, 256, 256, devices).values())
        for devices in (64, 128)
    )
    assert low <= twice / some <= high
