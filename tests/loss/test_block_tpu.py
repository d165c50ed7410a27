"""The TPU kernel of the one-pass loss, in the TPU interpreter."""

import jax
import jax.numpy as jnp
import loss_reference as reference
import numpy as np
import pytest
import test_total
from jax.experimental.pallas import tpu as pltpu
from test_mosaic_tpu import problem

from negflax.loss import OBJECTIVES, CandidateSet, KernelOptions, LabelBatch, objective_sum
from negflax.loss.kernels import block_tpu


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (300, 290, 5, 2), (700, 1300, 70, 3)])
def test_weights_and_sums_agree_with_float64(shape, dtype, interpreter):
    arrays = problem(shape, 20.0, dtype)
    states, candidates, bias, ids, exclude = arrays
    logits = reference.logits(*(np.asarray(x, np.float64) for x in arrays[:3]), ids, exclude)
    bound = np.where(np.isneginf(logits.max(1)), 0, logits.max(1)) + 3
    expected = np.exp(logits - bound[:, None])

    @jax.jit
    def weigh(states, candidates, bias, ids, exclude, bound):
        of_block = block_tpu.weigher(candidates, bias, ids, exclude.shape[1], len(states))
        return of_block(states, exclude, bound)

    weights, sums, total = weigh(*arrays, bound.astype(np.float32))
    assert weights.dtype == dtype and sums.dtype == total.dtype == jnp.float32
    atol = 1e-6 if dtype == jnp.float32 else 1e-3
    np.testing.assert_allclose(np.float64(weights), expected.T, rtol=0, atol=atol)
    np.testing.assert_allclose(total, expected.sum(1), rtol=2e-5)
    exact = expected @ np.asarray(candidates, np.float64)
    np.testing.assert_allclose(sums.T, exact, rtol=0, atol=30 * atol * np.abs(exact).max())


def value_and_gradients(arrays, options):
    states, table, ids, bias, label_ids, r, w = arrays

    def total(states, table, bias):
        logits = jnp.einsum("nd,nld->nl", states, table[jnp.maximum(label_ids, 0)])
        labels = LabelBatch(label_ids, logits, r, w)
        candidates = CandidateSet(table[ids], bias, ids)
        return objective_sum(OBJECTIVES["ntr"], states, labels, candidates, options=options)

    function = jax.value_and_grad(total, (0, 1, 2), has_aux=True)
    return jax.jit(function)(states, table, bias)


# The second bound lies far above the logits: all blocks are computed again, by their maximum.
@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_the_loss_by_the_kernel_agrees_with_float64_and_xla(scale, interpreter):
    arrays = test_total.problem(3, scale, n=150)
    budget = 17 * 64  # blocks of 64 states
    (value, margins), gradients = value_and_gradients(arrays, KernelOptions("mosaic_tpu", budget))
    (_, others), expected = value_and_gradients(arrays, KernelOptions("xla", budget))
    assert float(value) == pytest.approx(test_total.reference_value(*arrays), rel=1e-5)
    np.testing.assert_allclose(margins, others, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


def test_bfloat16_products_of_the_kernel_keep_float32_around_them(interpreter):
    arrays, budget = test_total.problem(4, 1.0, n=150), 17 * 64
    half = KernelOptions("mosaic_tpu", budget, precision="bfloat16")
    (value, _), gradients = value_and_gradients(arrays, half)
    (exact, _), expected = value_and_gradients(arrays, KernelOptions("xla", budget))
    assert value.dtype == jnp.float32 and float(value) == pytest.approx(float(exact), rel=5e-3)
    for ours, theirs in zip(gradients, expected, strict=True):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-2 * np.abs(theirs).max())


def test_the_logits_of_a_block_are_computed_once():
    """One kernel in the loop of training, and no second pass over the states."""
    arrays = test_total.problem(5, 1.0, n=1500, s=900, d=64)
    options = KernelOptions("mosaic_tpu", precision="bfloat16")
    with pltpu.force_tpu_interpret_mode():
        jaxpr = str(jax.make_jaxpr(lambda: value_and_gradients(arrays, options))())
    assert jaxpr.count("pallas_call") == 1
