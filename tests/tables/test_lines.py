"""Tables in lines, as TPUs store them: they are those of (V, D), to the bit."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.config import MeshConfig, OptimizerConfig
from negflax.mesh import make_mesh, split
from negflax.tables import lines, optimizers, stored, table, updates
from negflax.tables.rounding import pack

WIDTHS = [(64, False), (65, True), (8, False), (3, False), (129, True), (128, False), (200, False)]


def rows_of(width, v=48, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(width).normal(size=(v * 2, width)), dtype)


@pytest.mark.parametrize(("width", "bias"), WIDTHS)
def test_to_lines_and_back(width, bias):
    rows = rows_of(width, 128)
    laid = lines.to_lines(rows, bias)
    assert laid.shape == rows.shape and len(laid) == len(rows)
    assert laid.lines_LW.shape[1] % 128 == 0
    assert laid.lines_LW.size < 2 * rows.size or width == 3  # of 4 places
    np.testing.assert_array_equal(lines.to_rows(laid), rows)


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from(WIDTHS),
    st.lists(st.integers(0, 300), min_size=12, max_size=12, unique=True),
    st.booleans(),
)
def test_reads_adds_and_writes_like_rows(shape, index, half):
    width, bias = shape
    rows = pack(rows_of(width, 128).astype(jnp.bfloat16)) if half else rows_of(width, 128)
    laid = lines.to_lines(rows, bias)
    index = np.array(sorted(index), np.int32)  # some lie beyond the table
    new = rows[:1] + jnp.arange(len(index), dtype=rows.dtype)[:, None]
    for fill in (0, 1):
        np.testing.assert_array_equal(lines.read(laid, index, fill), lines.read(rows, index, fill))
    for change in (lines.add, lines.write):
        expected = change(rows, index, new)
        np.testing.assert_array_equal(lines.to_rows(change(laid, index, new)), expected)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", ["sgd", "rowwise_adagrad", "lazy_adam"])
def test_updates_are_those_of_rows(name, half):
    rng, rows = np.random.default_rng(0), rows_of(9, 64)
    optimizer = optimizers.get(OptimizerConfig(tables=name), len(rows))
    slots = optimizer.init(rows)
    kept = pack(rows.astype(jnp.bfloat16)) if half else rows
    plain = {"rows": kept, "slots": slots}
    laid = {
        "rows": lines.to_lines(kept, True),
        "slots": {k: lines.to_lines(x, True) if x.ndim == 2 else x for k, x in slots.items()},
    }
    step = updates.RowStep(rate=0.125, seed=np.uint32(3))
    apply = jax.jit(lambda table, index, g: updates.apply(optimizer, table, index, g, step))
    for _ in range(3):
        index = np.sort(rng.choice(128, 40, replace=False)).astype(np.int32)
        index[:5] = index[-3:] = 128  # nobody's, at either end
        gradient = jnp.asarray(rng.normal(size=(40, 9)), jnp.float32)
        plain, laid = apply(plain, index, gradient), apply(laid, index, gradient)
    spread = jax.tree.map(lines.to_rows, laid, is_leaf=lambda x: isinstance(x, lines.Lines))
    for ours, theirs in zip(jax.tree.leaves(spread), jax.tree.leaves(plain), strict=True):
        # Two programs may contract products and sums differently.
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=int(ours.dtype == jnp.uint16))


def test_a_state_goes_to_rows_and_back_on_a_mesh():
    mesh = make_mesh(MeshConfig())
    rows = jax.device_put(rows_of(9, 64), split(mesh))
    laid = stored.in_lines({"rows": rows, "count": rows[:, 0]}, True, mesh, ("data", "table"))
    assert laid["rows"].lines_LW.sharding == split(mesh)
    back = stored.plain(laid)
    np.testing.assert_array_equal(back["rows"], rows)
    again = stored.as_stored(back, laid)
    jax.tree.map(np.testing.assert_array_equal, again, laid)


@pytest.mark.parametrize(("size", "num_rows"), [(30, 12), (7, 40), (1, 1)])
def test_distinct_by_sorting_is_distinct(size, num_rows):
    ids = jnp.asarray(np.random.default_rng(size).integers(-3, num_rows + 3, size), jnp.int32)
    expected = table.distinct(ids, num_rows)
    with mock.patch.object(table, "platform", lambda: "tpu"):
        found = table.distinct(ids, num_rows)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
