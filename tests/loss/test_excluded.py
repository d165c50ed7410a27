"""Many excluded ids a state: against float64, for rows in any order, on both paths."""

import jax
import jax.numpy as jnp
import loss_reference as reference
import numpy as np
import pytest

from negflax.loss import (
    OBJECTIVES,
    CandidateSet,
    KernelOptions,
    LabelBatch,
    candidate_logsumexp,
    objective_sum,
)
from negflax.loss.kernels.xla import FEW_EXCLUDED

N, S, D, M = 29, 40, 5, 3 * FEW_EXCLUDED


def problem(order):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(S + 3, D)).astype(np.float32)
    ids = {
        "consecutive": np.arange(3, S + 3),
        "shuffled": rng.permutation(S) + 3,
        "drawn": rng.integers(0, S, S),
    }[order].astype(np.int32)
    excluded = rng.integers(-1, S + 8, (N, M)).astype(np.int32)  # some are no candidates
    states = rng.normal(size=(N, D)).astype(np.float32)
    return states, table[ids], rng.normal(size=S).astype(np.float32), ids, excluded


@pytest.mark.parametrize("order", ["consecutive", "shuffled", "drawn"])
def test_logsumexp_against_float64(order):
    states, candidates, bias, ids, excluded = problem(order)
    found = jax.jit(candidate_logsumexp)(
        states, candidates, bias_S=bias, candidate_ids_S=ids, exclude_ids_NL=excluded
    )
    doubles = np.float64(states), np.float64(candidates)
    expected = reference.logsumexp(reference.logits(*doubles, bias, ids, excluded))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("budget", [8_000_000, 1])
@pytest.mark.parametrize("order", ["consecutive", "shuffled"])
def test_seen_items_are_no_candidates(order, budget):
    """The loss is that of states whose seen candidates are not there, gradients included."""
    states, candidates, bias, ids, seen = problem(order)
    label_ids = np.full((N, 1), -1, np.int32)
    label_ids[:, 0] = seen[:, 0]  # a label that was seen still counts
    ones = jnp.ones((N, 1), jnp.float32)

    def total(states, candidates, one):
        labels = LabelBatch(label_ids, states[:, :1], ones, 2 * ones, seen_NM=seen)
        if one is not None:
            rows = slice(one, one + 1)
            there = jnp.asarray(~np.isin(ids, np.append(seen[one], label_ids[one])))
            labels = LabelBatch(label_ids[rows], states[rows, :1], ones[rows], 2 * ones[rows])
            masked = CandidateSet(candidates, jnp.where(there, bias, -jnp.inf), ids)
            return objective_sum(OBJECTIVES["ntr"], states[rows], labels, masked)[0]
        options = KernelOptions(block_elements=budget)
        return objective_sum(
            OBJECTIVES["ntr"], states, labels, CandidateSet(candidates, bias, ids), options=options
        )[0]

    gradient = jax.value_and_grad(total, (0, 1))
    value, slopes = gradient(states, candidates, None)
    parts = [gradient(states, candidates, n) for n in range(N) if label_ids[n, 0] >= 0]
    np.testing.assert_allclose(value, sum(v for v, _ in parts), rtol=1e-5)
    for i in (0, 1):
        np.testing.assert_allclose(slopes[i], sum(g[i] for _, g in parts), rtol=1e-4, atol=1e-5)
