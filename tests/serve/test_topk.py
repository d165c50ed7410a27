"""Sharded top-K of the whole catalogue against sorting every score."""

import jax
import numpy as np
import pytest

from negflax.config import MeshConfig
from negflax.mesh import make_mesh, split
from negflax.serve import topk as retrieval
from negflax.serve.topk import BLOCK, top_k_function


def mesh_of(devices):
    return make_mesh(MeshConfig(), jax.devices()[:devices])


def reference(queries_RD, rows_VD, excluded_RH, num_rows, k):
    """Sorts all scores; of equal ones the lower row comes first."""
    scores_RV = queries_RD.astype(np.float64) @ rows_VD.astype(np.float64).T
    scores_RV[:, 0] = -np.inf
    scores_RV[:, num_rows:] = -np.inf
    np.put_along_axis(scores_RV, excluded_RH, -np.inf, axis=1)
    row_RK = np.argsort(-scores_RV, axis=1, kind="stable")[:, :k]
    score_RK = np.take_along_axis(scores_RV, row_RK, axis=1)
    return np.where(score_RK > -np.inf, row_RK, 0), score_RK


def run(devices, queries_RD, rows_VD, excluded_RH, num_rows, k, recall=1.0):
    mesh = mesh_of(devices)
    function = top_k_function(mesh, num_rows, k, recall)
    rows = jax.device_put(rows_VD, split(mesh))
    return tuple(np.asarray(x) for x in function(queries_RD, rows, excluded_RH))


def case(rows, users, excluded, width=8, integers=True, seed=0):
    """Whole numbers: every sum is exact, and ties abound."""
    rng = np.random.default_rng(seed)
    draw = (
        rng.integers(-3, 4, (rows + users, width))
        if integers
        else rng.normal(size=(rows + users, width))
    )
    table = draw.astype(np.float32)
    best = np.argsort(-(table[rows:] @ table[:rows].T), axis=1)
    half = excluded // 2  # the best items are among the excluded, some are named twice
    some = rng.integers(0, rows, (users, excluded - half))
    return table[rows:], table[:rows], np.concatenate([best[:, :half], some], 1).astype(np.int32)


# Rows: few, blocks by one level, by two, with a last chunk, a last block and padding cut short; a
# reserved tail that ends within a chunk, within the last two, or fills whole shards.
@pytest.mark.parametrize(
    ("rows", "padding", "k", "excluded"),
    [
        (64, 3, 5, 4),
        (24, 2, 20, 10),
        (3_000, 1, 5, 3),
        (4_096 + 8, 5, 3, 0),
        (60_008, 7, 2, 1),
        (60_008, 2_001, 2, 1),
        (90_016, 45_003, 2, 1),
        (60_008, 55_000, 3, 2),
    ],
)
def test_lists_are_those_of_sorting_every_score(rows, padding, k, excluded):
    queries, table, seen = case(rows, 6, excluded)
    expected = reference(queries, table, seen, rows - padding, k)
    for devices in (1, 8):
        found = run(devices, queries, table, seen, rows - padding, k)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("devices", [1, 8])
def test_lists_of_a_table_stored_by_columns_are_the_same(devices, monkeypatch):
    """As on a TPU, which looks blocks of narrow rows up one by one."""
    monkeypatch.setattr(retrieval, "platform", lambda: "tpu")
    assert [retrieval._stored_by_columns(width) for width in (64, 127, 128, 129)] == [1, 0, 0, 1]
    retrieval.top_k_function.cache_clear()
    queries, table, seen = case(60_008, 6, 3)
    expected = reference(queries, table, seen, 60_001, 4)
    found = run(devices, queries, table, seen, 60_001, 4)
    retrieval.top_k_function.cache_clear()
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_a_list_ends_where_the_catalogue_does():
    queries, table, _ = case(16, 3, 0)
    seen = np.tile(np.arange(4, 14, dtype=np.int32), (3, 1))
    for devices in (1, 8):
        rows, scores = run(devices, queries, table, seen, 15, 8)
        assert (rows[:, :4] > 0).all() and (rows[:, 4:] == 0).all()
        assert np.isin(rows[:, :4], [1, 2, 3, 14]).all() and np.isneginf(scores[:, 4:]).all()


def test_large_random_table_gives_the_same_lists_on_one_and_eight_devices():
    queries, table, seen = case(200_000, 64, 8, 16, integers=False)
    one, eight = (run(devices, queries, table, seen, 199_999, 10) for devices in (1, 8))
    np.testing.assert_array_equal(one[0], eight[0])
    np.testing.assert_allclose(one[1], eight[1], rtol=1e-5)
    np.testing.assert_array_equal(one[0], reference(queries, table, seen, 199_999, 10)[0])


def test_all_scores_equal_lists_the_first_rows():
    table, queries = np.zeros((40_000, 4), np.float32), np.ones((2, 4), np.float32)
    for devices in (1, 8):
        rows, _ = run(devices, queries, table, np.array([[1, 3], [0, 2]], np.int32), 40_000, 3)
        assert rows.tolist() == [[2, 4, 5], [1, 3, 4]]


def test_a_query_that_is_not_finite_gets_no_list():
    queries, table, seen = case(40_000, 3, 2)
    queries[1, 0] = np.nan
    for devices in (1, 8):
        scores = run(devices, queries, table, seen, 39_999, 2)[1]
        assert np.isnan(scores).tolist() == [[False] * 2, [True] * 2, [False] * 2]


def test_approximate_choice_finds_most_of_the_list():
    queries, table, seen = case(40_000, 16, 2, integers=False)
    exact, found = (run(1, queries, table, seen, 40_000, 10, recall) for recall in (1.0, 0.9))
    shared = [len(np.intersect1d(a, b)) for a, b in zip(exact[0], found[0], strict=True)]
    assert np.mean(shared) >= 9


def test_no_array_of_users_times_rows():
    """Temporary memory grows with V / BLOCK a user, not with V."""
    users, rows = 64, 1_000_000
    function = top_k_function(mesh_of(1), rows, 10)
    shapes = [((users, 16), np.float32), ((rows, 16), np.float32), ((users, 20), np.int32)]
    compiled = function.lower(*(jax.ShapeDtypeStruct(*shape) for shape in shapes)).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    maxima = 4 * users * rows / BLOCK
    assert temporary < 3 * maxima + 8 * 4 * retrieval._REFINED < 4 * users * rows / 2
