"""The XLA path of accelerators, run on a CPU that says it is one."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_total
from jax.extend.core import jaxprs_in_params

from negflax.loss import KernelOptions, LabelBatch, objective_sum
from negflax.loss.kernels import block_weights, xla
from negflax.loss.logsumexp import CandidateSet
from negflax.loss.objectives import OBJECTIVES


def value_and_gradients(problem, platform, options):
    states, table, ids, bias, label_ids, r, w = problem

    def total(states, table, bias):
        logits = jnp.einsum("nd,nld->nl", states, table[jnp.maximum(label_ids, 0)])
        labels = LabelBatch(label_ids, logits, r, w)
        candidates = CandidateSet(table[ids], bias, ids)
        return objective_sum(OBJECTIVES["ntr"], states, labels, candidates, options=options)

    with (
        mock.patch.object(xla, "platform", lambda: platform),
        mock.patch.object(block_weights, "platform", lambda: platform),
    ):
        return jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))(states, table, bias)


@pytest.mark.parametrize(("platform", "budget"), [("tpu", 8_000_000), ("gpu", 17 * 64)])
@pytest.mark.parametrize("scale", [1.0, 200.0])  # the bound of the second lies far above the logits
def test_agrees_with_float64_and_the_cpu(platform, budget, scale):
    problem = test_total.problem(3, scale, n=150)
    options = KernelOptions("xla", budget)
    (value, margins), gradients = value_and_gradients(problem, platform, options)
    (same, others), expected = value_and_gradients(problem, "cpu", options)
    assert float(value) == pytest.approx(test_total.reference_value(*problem), rel=1e-5)
    np.testing.assert_allclose(margins, others, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(value, same, rtol=1e-5)
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


# XLA's CPU backend has no bfloat16 products inside a branch, where accelerators walk once more.
@pytest.mark.parametrize(("platform", "budget"), [("cpu", 8_000_000), ("cpu", 1), ("tpu", 1)])
def test_bfloat16_products_keep_float32_around_them(platform, budget):
    problem = test_total.problem(4, 1.0, n=150)
    options = KernelOptions("xla", budget)
    half = KernelOptions("xla", budget, precision="bfloat16")
    (value, _), gradients = value_and_gradients(problem, platform, half)
    (exact, _), expected = value_and_gradients(problem, platform, options)
    assert value.dtype == jnp.float32 and float(value) != float(exact)
    assert float(value) == pytest.approx(float(exact), rel=5e-3)
    for ours, theirs in zip(gradients, expected, strict=True):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-2 * np.abs(theirs).max())


def test_the_loop_of_accelerators_does_not_branch():
    problem = test_total.problem(5, 1.0)

    def branches(platform):
        run = functools.partial(value_and_gradients, problem, platform, KernelOptions("xla"))
        return _branches_in_loops(jax.make_jaxpr(run)().jaxpr, False)

    assert branches("cpu") and not branches("tpu")


def _branches_in_loops(jaxpr, looping):
    """Conditionals inside of while loops."""
    count = 0
    for equation in jaxpr.eqns:
        count += looping and equation.primitive.name == "cond"
        within = looping or equation.primitive.name == "while"
        for inner in jaxprs_in_params(equation.params):
            count += _branches_in_loops(inner, within)
    return count
