import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.tables.rounding import stochastic_round

finite = st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False)


@settings(max_examples=50, deadline=None)
@given(st.lists(finite, min_size=8, max_size=8), st.integers(0, 2**32 - 1))
def test_rounding_goes_to_one_of_the_two_neighbours(values, seed):
    x = np.float32(values).reshape(2, 4)
    found = stochastic_round(jnp.asarray(x), jnp.arange(2), jnp.uint32(seed))
    bits = x.view(np.uint32)
    low = (bits & 0xFFFF0000).view(np.float32)
    high = ((bits & 0xFFFF0000) + np.uint32(0x10000)).view(np.float32)
    y = np.asarray(found, np.float32)
    assert found.dtype == jnp.bfloat16
    assert np.all((y == low) | ((y == high) & (x != low)))


def test_unbiased_to_four_standard_errors():
    draws = 1 << 16
    x = np.float32([1.001, -1.0039, 0.5 + 2**-12, 3e-20, 1.9999, -7.13])
    table = jnp.broadcast_to(x, (draws, len(x)))
    y = np.asarray(stochastic_round(table, jnp.arange(draws), jnp.uint32(7)), np.float64)
    gap = y.max(0) - y.min(0)
    share = np.abs((x - y.min(0)) / gap)
    error = gap * np.sqrt(share * (1 - share) / draws)
    assert np.all(np.abs(y.mean(0) - x) < 4 * error)
    # Columns and rows are drawn apart.
    ups = (y[:, [0, 4]] == y.max(0)[[0, 4]]).astype(float)
    assert abs(np.corrcoef(ups.T)[0, 1]) < 4 / np.sqrt(draws)
    assert abs(np.corrcoef(ups[1:, 0], ups[:-1, 0])[0, 1]) < 4 / np.sqrt(draws)


def test_a_function_of_seed_and_id_alone():
    x = jax.random.normal(jax.random.key(0), (40, 5))
    ids, seed = jnp.arange(40) * 7, jnp.uint32(3)
    whole = stochastic_round(x, ids, seed)
    np.testing.assert_array_equal(stochastic_round(x[8:20], ids[8:20], seed), whole[8:20])
    assert (stochastic_round(x, ids, jnp.uint32(4)) != whole).any()


def test_values_that_are_not_finite_are_kept():
    x = jnp.array([[jnp.inf, -jnp.inf, jnp.nan, 0.0, -0.0]])
    y = np.asarray(stochastic_round(x, jnp.zeros(1, jnp.int32), jnp.uint32(1)), np.float32)
    np.testing.assert_array_equal(y, np.asarray(x))
