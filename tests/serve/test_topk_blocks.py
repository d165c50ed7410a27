"""Selection of the largest values of each user against sorting."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.serve import topk_blocks
from negflax.serve.topk_blocks import GROUP, best_blocks, top_k_of_scores


def sorted_places(values_RN, k):
    """Places by falling value; of equal ones the lower is first."""
    return np.argsort(-values_RN.astype(np.float64), axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spread", [1, 3, 1e30])
def test_values_and_places_are_those_of_sorting(seed, spread):
    """Few distinct values, where ties fill all slots; many; and of many magnitudes."""
    rng = np.random.default_rng(seed)
    values_RN = rng.normal(size=(5, 400)) * spread ** rng.uniform(-1, 1, (5, 400))
    values_RN = (np.rint(values_RN) if spread == 1 else values_RN).astype(np.float32) + 0  # no −0
    values_RN[1, 10:] = -np.inf  # fewer than k
    values_RN[2] = 0  # all are equal
    values_RN[3, rng.permutation(400)[:150]] = -np.inf
    found, place_RK = (
        np.asarray(x) for x in jax.jit(top_k_of_scores, static_argnums=1)(values_RN, 20)
    )
    expected_RK = sorted_places(values_RN, 20)
    np.testing.assert_array_equal(found, np.take_along_axis(values_RN, expected_RK, axis=1))
    finite_RK = found > -np.inf
    np.testing.assert_array_equal(place_RK[finite_RK], expected_RK[finite_RK])
    assert (place_RK >= 0).all() and (place_RK < 400).all()


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_best_blocks_are_among_those_found(data):
    """Wherever they lie: apart, side by side in few groups, or equal all over the table."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    wanted = 5
    levels = data.draw(st.sampled_from([2, 6, 1_000]))
    maxima_AR = rng.integers(0, levels, (64 * GROUP, 3)).astype(np.float32)
    if data.draw(st.booleans()):
        maxima_AR.sort(axis=0)
    if data.draw(st.booleans()):
        maxima_AR[rng.integers(0, len(maxima_AR)) :] = -np.inf
    group_GR = maxima_AR.reshape(-1, GROUP, 3).max(axis=1)
    find = jax.jit(best_blocks, static_argnums=(2, 3))
    block_RW = np.asarray(find(maxima_AR, group_GR, wanted, 1.0))
    assert (np.diff(block_RW, axis=1) >= 0).all()
    for user, block_W in enumerate(block_RW):
        best = sorted_places(maxima_AR[:, user][None], wanted)[0]
        best = best[maxima_AR[best, user] > -np.inf]
        assert np.isin(best, block_W).all()
        named = block_W[block_W < len(maxima_AR)]
        assert len(np.unique(named)) == len(named)


def test_of_float64_none_is_lost_to_rounding():
    values_RN = np.full((2, 400), -np.inf)
    values_RN[:, 100:120] = 1 - 1e-12 * np.arange(20)  # as many as are wanted; 1 in float32
    with jax.enable_x64(True):
        found, place_RK = top_k_of_scores(values_RN, 20)
    np.testing.assert_array_equal(found, values_RN[:, 100:120])
    np.testing.assert_array_equal(place_RK, np.tile(np.arange(100, 120), (2, 1)))


def test_bounds_of_a_user_who_is_not_a_number_end():
    values_NR = np.full((64, 2), np.nan, np.float32)
    values_NR[:, 0] = np.arange(64)
    low_R, high_R = topk_blocks._bounds(values_NR, 4, 5)
    assert 4 <= (values_NR[:, 0] >= low_R[0]).sum() <= 5
    assert (values_NR[:, 0] >= high_R[0]).sum() < 4
