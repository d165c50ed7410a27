import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimizer_reference
import pytest
from jax import lax
from jax.sharding import NamedSharding

from negflax import tables
from negflax.config import ConfigError, MeshConfig, OptimizerConfig
from negflax.mesh import AXES, COPIED, SPLIT, make_mesh
from negflax.tables import optimizers, updates

V, D, K, RATE = 21, 3, 25, 0.1
SPARSE = ("sgd", "momentum", "adagrad", "rowwise_adagrad", "lazy_adam", "rowwise_adam")
DENSE = ("dense_adagrad", "dense_adam")


def settings(name, **fields):
    return OptimizerConfig(
        tables=name,
        adagrad_init=0.01,
        momentum=0.8,
        adam_b2=0.95,
        table_weight_decay=0.01,
        **fields,
    )


def mesh_of(devices):
    return make_mesh(MeshConfig(), jax.devices()[:devices])


@functools.cache
def step_function(config, mesh, num_rows=V):
    """Jitted (rows, slots, ids_K, gradients_KD, step) → (rows, slots), both donated."""
    optimizer = optimizers.get(config, num_rows)

    def on_device(rows, slots, ids, gradients, step):
        ids_U, index = tables.distinct(ids, num_rows)
        merged = jnp.zeros((len(ids_U), gradients.shape[1])).at[index].add(gradients)
        place = tables.scatter_index(rows, ids_U)
        how = updates.RowStep(
            rate=RATE,
            decay=config.table_weight_decay,
            step=step,
            seed=jnp.uint32(step),
            first_row=lax.axis_index(AXES) * len(rows),
        )
        table = {"rows": rows, "slots": slots}
        table = updates.apply(optimizer, table, place, merged, how)
        return table["rows"], table["slots"]

    mapped = jax.shard_map(
        on_device,
        mesh=mesh,
        check_vma=False,
        in_specs=(SPLIT, SPLIT, COPIED, COPIED, COPIED),
        out_specs=(SPLIT, SPLIT),
    )
    return jax.jit(mapped, donate_argnums=(0, 1)), optimizer


def some_steps(count, rng=None):
    """Ids with duplicates, some of them in no table, and their gradients."""
    rng = rng or np.random.default_rng(0)
    strangers = [-1, -V, V, 3 * V]  # negative, padding, beyond
    return [
        (np.append(rng.integers(0, V, K - 4), strangers), rng.normal(size=(K, D)))
        for _ in range(count)
    ]


def train(config, devices, steps):
    """(start, rows, slots) of the whole table after the steps."""
    mesh = mesh_of(devices)
    step, optimizer = step_function(config, mesh)
    rows = tables.init_rows(jax.random.key(1), tables.TableSpec(V, D, 1.0), mesh, "float32")
    slots = jax.jit(optimizer.init)(rows)
    if config.table_dtype == "bfloat16":
        rows = tables.pack(rows.astype("bfloat16"))
    start = np.asarray(tables.unpack(rows, "float32"))[:V]
    for i, (ids, gradients) in enumerate(steps):
        rows, slots = step(rows, slots, jnp.int32(ids), jnp.float32(gradients), i)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((rows, slots)))
    return start, np.asarray(tables.unpack(rows, "float32"))[:V], slots


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("name", SPARSE)
def test_against_float64_with_duplicates_and_ids_of_no_table(name, devices):
    config, steps = settings(name), some_steps(60)
    start, rows, _ = train(config, devices, steps)
    expected = optimizer_reference.train(config, start, steps, RATE, config.table_weight_decay)
    np.testing.assert_allclose(rows, expected, rtol=3e-5, atol=3e-5)


@pytest.mark.parametrize("name", SPARSE)
def test_rows_that_are_not_touched_keep_every_bit(name):
    config = settings(name)
    ids = np.array([3, 3, 5] + [-1, V, -3, 1000] * 5 + [5] * 2)
    start, rows, slots = train(config, 1, [(ids, np.ones((K, D)))] * 2)
    changed = np.flatnonzero((start != rows).any(1))
    np.testing.assert_array_equal(changed, [3, 5])
    fresh = jax.eval_shape(optimizers.get(config, V).init, jax.ShapeDtypeStruct((V, D), "float32"))
    assert {k: x.dtype for k, x in slots.items()} == {k: x.dtype for k, x in fresh.items()}
    for slot in slots.values():
        untouched = np.delete(np.asarray(slot)[:V], [3, 5], axis=0)
        assert len(np.unique(untouched)) == 1


@pytest.mark.parametrize("name", ["momentum", "adagrad", "lazy_adam", *DENSE])
def test_equals_optax_where_every_row_is_touched(name):
    config, rng = settings(name), np.random.default_rng(1)
    everyone = np.append(rng.permutation(V), [-1, V, 3, V - 1])
    steps = [(everyone, rng.normal(size=(K, D))) for _ in range(20)]
    start, rows, _ = train(config, 1, steps)
    expected = optax_rows(config, start, steps)
    np.testing.assert_allclose(rows, expected, rtol=3e-5, atol=3e-5)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("name", DENSE)
def test_dense_is_optax_on_the_whole_table(name, devices):
    config, steps = settings(name), some_steps(20)
    start, rows, _ = train(config, devices, steps)
    np.testing.assert_allclose(rows, optax_rows(config, start, steps), rtol=3e-5, atol=3e-5)


def optax_rows(config, rows, steps):
    if config.tables == "momentum":
        scale = optax.trace(config.momentum)
    elif config.tables.endswith("adagrad"):
        scale = optax.scale_by_rss(config.adagrad_init, eps=optimizers.EPSILON)
    else:
        scale = optax.scale_by_adam(config.momentum, config.adam_b2)
    update, rows = jax.jit(scale.update), jnp.float32(rows)
    state = scale.init(rows)
    for ids, gradients in steps:
        known, dense = (ids >= 0) & (ids < V), np.zeros((V, D))
        np.add.at(dense, ids[known], gradients[known])
        direction, state = update(jnp.float32(dense), state)
        rows = rows - RATE * (direction + config.table_weight_decay * rows)
    return rows


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("name", [*SPARSE, "lazy_adam bfloat16"])
def test_all_state_is_donated_and_nothing_has_the_tables_size(name, devices):
    name, _, half = name.partition(" ")
    num_rows, width, mesh = 800_000, 16, mesh_of(devices)  # lowered alone, never made
    step, optimizer = step_function(
        settings(name, table_dtype=half or "model"), mesh, num_rows=num_rows
    )
    sharding = NamedSharding(mesh, SPLIT)

    def on_mesh(tree):
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
        )

    rows = jax.ShapeDtypeStruct((num_rows, width), "float32")
    slots = on_mesh(jax.eval_shape(optimizer.init, rows))
    rows = on_mesh(jax.eval_shape(lambda x: tables.pack(x.astype(half)), rows) if half else rows)
    memory = (
        step.lower(rows, slots, jnp.zeros(5_000, jnp.int32), jnp.zeros((5_000, width)), 0)
        .compile()
        .memory_analysis()
    )
    state_bytes = sum(x.size * x.dtype.itemsize for x in (rows, *slots.values())) // devices
    assert memory.alias_size_in_bytes == state_bytes
    assert memory.temp_size_in_bytes < 0.7 * num_rows * width * 4 / devices


def test_bfloat16_rows_take_steps_too_small_for_them():
    # Changes of .001, where neighbours around 1 are .004 to .008 apart; the slots are float32.
    config = settings("rowwise_adagrad", table_dtype="bfloat16")
    steps = [(ids, np.full((K, D), 0.01)) for ids, _ in some_steps(100)]
    start, rows, slots = train(config, 1, steps)
    moved, exact = (
        rows - start,
        optimizer_reference.train(config, start, steps, RATE, config.table_weight_decay) - start,
    )
    assert slots["sum_of_squares"].dtype == jnp.float32
    assert abs(moved.mean() / exact.mean() - 1) < 0.05
    np.testing.assert_array_equal(rows, train(config, 8, steps)[1])


@pytest.mark.parametrize("fields", [{}, {"table_dtype": "bfloat16"}])
def test_blocks_change_no_bit(fields, monkeypatch):
    config, steps = settings("lazy_adam", **fields), some_steps(10)
    _, at_once, _ = train(config, 1, steps)
    monkeypatch.setattr(updates, "BLOCK_ROWS", 8)
    step_function.cache_clear()
    _, by_blocks, _ = train(config, 1, steps)
    step_function.cache_clear()
    np.testing.assert_array_equal(at_once, by_blocks)


@pytest.mark.parametrize("name", DENSE)
def test_every_row_is_for_small_tables(name):
    optimizers.get(settings(name), optimizers.MOST_DENSE_ROWS)
    with pytest.raises(ConfigError, match=r"config\.optimizer\.tables.*at most 200,000 rows"):
        optimizers.get(settings(name), optimizers.MOST_DENSE_ROWS + 1)
    with pytest.raises(ConfigError, match="table_dtype = 'model'"):
        optimizers.get(settings(name, table_dtype="bfloat16"), V)
