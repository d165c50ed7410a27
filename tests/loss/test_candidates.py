import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.loss import candidate_logsumexp
from negflax.loss import candidates as sampling

V, D = 60, 4
COUNTS = np.concatenate([[0], 1 + np.arange(V - 1) ** 2])


def draw(name, key):
    if name == "uniform":
        return sampling.draw_uniform(key, V, 200)
    if name == "unigram":
        return sampling.draw_unigram(key, sampling.unigram(COUNTS, 0.75), 200)
    table = sampling.unigram(COUNTS, 1.0)
    label_key, key = jax.random.split(key)
    labels = sampling.draw_unigram(label_key, table, 100).ids_S
    return sampling.in_batch(key, jnp.concatenate([labels, jnp.zeros(5, jnp.int32)]), table, V, 100)


@pytest.mark.parametrize("name", ["uniform", "unigram", "in_batch"])
def test_the_sampled_partition_function_is_unbiased(name):
    rng = np.random.default_rng(0)
    states, table = rng.normal(size=(3, D)), rng.normal(size=(V, D))
    full = sampling.full(V, V + 4)
    padded = np.concatenate([table, np.full((4, D), 1e3)])
    label = jnp.array([[5], [6], [-1]], jnp.int32)

    def lse(candidates, table):
        return candidate_logsumexp(
            jnp.float32(states),
            jnp.float32(table)[candidates.ids_S],
            bias_S=-candidates.log_q_S,
            candidate_ids_S=candidates.ids_S,
            exclude_ids_NL=label,
        )

    expected = lse(full, padded)
    z = states @ table.T
    z[:, 0] = z[0, 5] = z[1, 6] = -np.inf
    np.testing.assert_allclose(expected, np.log(np.exp(z).sum(1)), rtol=1e-5)
    keys = jax.random.split(jax.random.key(1), 3000)
    sampled = jax.jit(jax.vmap(lambda key: lse(draw(name, key), table)))(keys)
    ratio = np.exp(sampled - expected)
    standard_error = ratio.std(0) / np.sqrt(len(keys))
    assert (np.abs(ratio.mean(0) - 1) < 4 * standard_error).all()
    assert (standard_error < 0.02).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50), st.sampled_from([0.0, 0.5, 1.0]))
def test_the_alias_table_holds_the_distribution(counts, alpha):
    table = sampling.unigram(np.array([0, *counts]), alpha)
    keep, alias = np.float64(table.keep_V)[1:], np.asarray(table.alias_V)[1:] - 1
    p = keep.copy()
    np.add.at(p, alias, 1 - keep)
    weight = np.maximum(counts, 1.0) ** alpha
    np.testing.assert_allclose(p / len(p), weight / weight.sum(), atol=1e-6)
    np.testing.assert_allclose(np.exp(table.log_p_V[1:]), weight / weight.sum(), rtol=1e-5)


def test_row_0_is_never_a_candidate():
    for name in ("uniform", "unigram"):
        assert draw(name, jax.random.key(0)).ids_S.min() >= 1
    labels = sampling.in_batch(
        jax.random.key(0), jnp.zeros(9, jnp.int32), sampling.unigram(COUNTS, 1.0), V, 8
    )
    assert np.isposinf(labels.log_q_S[:9]).all() and np.isfinite(labels.log_q_S[9:]).all()
    assert np.isposinf(sampling.full(V, V + 2).log_q_S[np.array([0, V, V + 1])]).all()


def test_an_empty_catalogue_is_an_error():
    with pytest.raises(ValueError, match="nothing to sample"):
        sampling.unigram(np.array([0]), 1.0)
