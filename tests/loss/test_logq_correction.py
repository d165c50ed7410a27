"""The gradient of our margin is that of the corrected logQ correction (Khrylchenko et al. 2025)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from negflax.loss import OBJECTIVES, CandidateSet, LabelBatch, objective_sum

N, S, V, D = 7, 40, 60, 5


def problem():
    rng = np.random.default_rng(0)
    states, table = (jnp.asarray(rng.normal(size=x), jnp.float32) for x in ((N, D), (V, D)))
    q = rng.dirichlet(np.ones(V))
    ids = jnp.asarray(rng.choice(V, S, p=q), jnp.int32)
    labels = jnp.asarray(rng.integers(0, V, (N, 1)), jnp.int32)
    return states, table, ids, jnp.log(S * jnp.asarray(q, jnp.float32))[ids], labels


def ours(states, table, ids, log_q, labels):
    logits = jnp.einsum("nd,nld->nl", states, table[labels])
    one = jnp.ones((N, 1))
    batch = LabelBatch(labels, logits, one, 0 * one)
    return objective_sum(OBJECTIVES["ssm"], states, batch, CandidateSet(table[ids], -log_q, ids))[0]


def against_samples(states, table, ids, log_q, labels):
    """(z_y, log Σ exp(z_j − log q_j) over the samples that are not the label)."""
    own = jnp.einsum("nd,nd->n", states, table[labels[:, 0]])
    logits = jnp.where(labels == ids, -jnp.inf, states @ table[ids].T - log_q)
    return own, jax.nn.logsumexp(logits, axis=1)


def corrected(*arguments):
    """−sg(1 − p) · (z_y − log Σ), the paper's loss."""
    own, lse = against_samples(*arguments)
    return -jnp.sum(lax.stop_gradient(1 - jax.nn.sigmoid(own - lse)) * (own - lse))


def classic(states, table, ids, log_q, labels):
    """logQ correction of the label too, as if it had been drawn (Yi et al. 2019)."""
    own, lse = against_samples(states, table, ids, log_q, labels)
    log_q_V = jnp.full(V, log_q.mean()).at[ids].set(log_q)
    own = own - log_q_V[labels[:, 0]]
    return -jnp.sum(own - jnp.logaddexp(own, lse))


def test_our_gradient_is_that_of_the_corrected_correction():
    arguments = problem()
    for place in (0, 1):
        found = jax.grad(ours, place)(*arguments)
        expected = jax.grad(corrected, place)(*arguments)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_and_not_that_of_the_classic_one():
    arguments = problem()
    found, other = (jax.grad(f)(*arguments) for f in (ours, classic))
    assert np.abs(found - other).max() > 1e-2
