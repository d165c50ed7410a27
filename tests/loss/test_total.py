import functools
import math
import re

import jax
import jax.numpy as jnp
import loss_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend.core import jaxprs_in_params

from negflax.loss import (
    OBJECTIVES,
    CandidateSet,
    KernelOptions,
    LabelBatch,
    margins,
    ntr,
    objective_sum,
    ssm,
)

FUSED, TWO_PASS = 8_000_000, 1  # block budgets that choose the path


def problem(seed, scale, n=29, s=17, d=5, labels=2):
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(n, d)).astype(np.float32) * scale
    table = rng.normal(size=(s, d)).astype(np.float32)
    ids = rng.integers(0, s, s).astype(np.int32)
    label_ids = rng.integers(-1, s, (n, labels)).astype(np.int32)
    present = label_ids >= 0
    r = present * (rng.random((n, labels)) < 0.5) * rng.random((n, labels))
    w = present * (rng.random((n, labels)) < 0.5) * rng.random((n, labels)) * 10
    bias = rng.normal(size=s)
    return states, table, ids, bias.astype(np.float32), label_ids, np.float32(r), np.float32(w)


@functools.partial(jax.jit, static_argnums=7)
def ours(states, table, ids, bias, label_ids, r, w, budget):
    def total(states, table, bias):
        labels = jnp.einsum("nd,nld->nl", states, table[jnp.maximum(label_ids, 0)])
        return objective_sum(
            OBJECTIVES["ntr"],
            states,
            LabelBatch(label_ids, labels, r, w),
            CandidateSet(table[ids], bias, ids),
            options=KernelOptions(block_elements=budget),
        )

    return jax.value_and_grad(total, (0, 1, 2), has_aux=True)(states, table, bias)


def reference_value(states, table, ids, bias, label_ids, r, w):
    states, table = np.float64(states), np.float64(table)
    lse = reference.logsumexp(reference.logits(states, table[ids], bias, ids, label_ids))
    labels = np.einsum("nd,nld->nl", states, table[np.maximum(label_ids, 0)])
    return reference.ntr_sum(labels, label_ids, lse, r, w)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from([0.0, 1.0, 30.0, 2e3]))
def test_both_paths_agree_with_float64(seed, scale):
    arrays = problem(seed, scale)
    expected = reference_value(*arrays)
    fused, two_pass = (ours(*map(jnp.asarray, arrays), b) for b in (FUSED, TWO_PASS))
    for (value, _), gradients in (fused, two_pass):
        np.testing.assert_allclose(value, expected, rtol=2e-5, atol=1e-3)
        assert all(np.isfinite(g).all() for g in gradients)
    for a, b in zip(fused[1], two_pass[1], strict=True):
        # At logits of ±1e4 the float32 rounding of the logits, 1e-3, is that of the softmax.
        np.testing.assert_allclose(a, b, atol=(1e-5 + 1e-6 * scale) * (1 + np.abs(b).max()))


@pytest.mark.parametrize("budget", [FUSED, TWO_PASS])
def test_gradient_against_finite_differences(budget):
    with jax.enable_x64(True):
        arrays = [x.astype(np.float64) if x.dtype == np.float32 else x for x in problem(3, 1.0)]
        _, gradients = ours(*arrays, budget)
        rng = np.random.default_rng(0)
        for place, gradient in zip((0, 1, 3), gradients, strict=True):
            direction = rng.normal(size=arrays[place].shape)
            up, down = (
                reference_value(
                    *arrays[:place], arrays[place] + e * direction, *arrays[place + 1 :]
                )
                for e in (1e-6, -1e-6)
            )
            np.testing.assert_allclose(
                np.vdot(gradient, direction), (up - down) / 2e-6, rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("budget", [FUSED, TWO_PASS])
def test_a_perfectly_fitted_positive_beside_rows_without_feedback(budget):
    # log(1 − p) computed naively is −inf here, and 0 · −inf turns the whole gradient into NaN.
    states = jnp.array([[1e4], [0.0], [-1e4]])
    table = jnp.array([[0.0], [1.0], [-1.0]])
    ids = np.arange(3, dtype=np.int32)
    label_ids = np.array([[1], [-1], [1]], np.int32)
    r, w = np.array([[1.0], [0], [0]]), np.array([[0.0], [0], [1]])
    (value, margin), gradients = ours(states, table, ids, jnp.zeros(3), label_ids, r, w, budget)
    assert np.isfinite(value) and float(value) == 0.0
    assert all(np.isfinite(g).all() for g in gradients)


def test_a_bound_far_above_the_logits():
    # One long candidate, orthogonal to all states: |s|·max|c| is 4e4, the logits are below 60. The
    # sum below the bound underflows from the second block of states on, and is made anew.
    n, rng = 300, np.random.default_rng(0)
    states = np.float32(np.c_[rng.normal(size=(n, 2)), np.zeros(n)])
    states[128:] *= 20
    table = np.float32(np.r_[np.c_[rng.normal(size=(6, 2)), np.zeros(6)], [[0, 0, 1e3]]])
    ids, label_ids = np.arange(7, dtype=np.int32), rng.integers(0, 7, (n, 1)).astype(np.int32)
    r = np.float32(rng.random((n, 1)) < 0.5)
    arrays = states, table, ids, np.zeros(7, np.float32), label_ids, r, 1 - r
    (fused, _), gradients = ours(*map(jnp.asarray, arrays), FUSED)
    (_, _), expected = ours(*map(jnp.asarray, arrays), TWO_PASS)
    np.testing.assert_allclose(fused, reference_value(*arrays), rtol=2e-5)
    for a, b in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * (1 + np.abs(b).max()))


def test_a_state_with_its_label_as_the_only_candidate():
    states, table, ids = jnp.ones((2, 1)), jnp.ones((2, 1)), np.array([1, 1], np.int32)
    label_ids, r, w = np.array([[1], [1]]), np.array([[1.0], [0]]), np.array([[0.0], [1]])
    for budget in (FUSED, TWO_PASS):
        (value, m), gradients = ours(states, table, ids, jnp.zeros(2), label_ids, r, w, budget)
        assert value == 0 and np.isposinf(m).all()  # p = 1 whatever the logits: it tells nothing
        assert all((np.asarray(g) == 0).all() for g in gradients)


def test_equal_labels_count_once_and_absent_ones_not_at_all():
    logits = jnp.array([[1.0, 1.0, 2.0, 9.0]])
    m = margins(logits, jnp.array([[4, 4, 5, -1]]), jnp.array([0.5]))
    np.testing.assert_allclose(m[0, 0], 1.0 - np.logaddexp(0.5, 2.0), rtol=1e-6)
    np.testing.assert_allclose(m[0, 2], 2.0 - np.logaddexp(0.5, 1.0), rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.floats(-1e4, 1e4), st.floats(0, 100))
def test_the_gradient_of_a_negative_is_w_times_p(m, w):
    gradient = jax.grad(lambda m: ntr(m, jnp.zeros(()), jnp.asarray(w)))(jnp.float32(m))
    p = 1 / (1 + np.exp(-np.clip(m, -700, 700)))
    np.testing.assert_allclose(gradient, w * p, rtol=1e-4, atol=1e-30)


def test_ssm_is_the_first_term_of_ntr():
    m, r = jnp.linspace(-5, 5, 7), jnp.ones(7)
    np.testing.assert_array_equal(ssm(m, r, 3 * r), ntr(m, r, 0 * r))


@pytest.mark.parametrize("budget", [1_000_000, 200_000])  # fused, two passes
def test_no_array_of_states_times_candidates(budget):
    n, s, d = 4096, 4096, 8  # n·s is 16 budgets and more

    def total(states, candidates):
        return objective_sum(
            OBJECTIVES["ntr"],
            states,
            LabelBatch(
                ids_NL=jnp.arange(n)[:, None],
                logits_NL=jnp.einsum("nd,nd->n", states, candidates)[:, None],
                r_NL=jnp.ones((n, 1)),
                w_NL=jnp.ones((n, 1)),
            ),
            CandidateSet(candidates, jnp.zeros(s), jnp.arange(s)),
            options=KernelOptions(block_elements=budget),
        )[0]

    shapes = jax.ShapeDtypeStruct((n, d), jnp.float32), jax.ShapeDtypeStruct((s, d), jnp.float32)
    gradient = jax.jit(jax.value_and_grad(total, (0, 1)))
    assert largest_array(gradient.trace(*shapes).jaxpr) <= 1.1 * budget
    compiled = gradient.lower(*shapes).compile()
    dimensions = re.findall(r"= \w+\[([\d,]+)\]", compiled.as_text())
    assert max(math.prod(map(int, one.split(","))) for one in dimensions) <= 1.1 * budget
    temporary = compiled.memory_analysis().temp_size_in_bytes
    assert temporary < 4 * (2.5 * budget + 20 * (n + s) * d)


def largest_array(jaxpr):
    """Elements of the largest array that a jaxpr makes, sub-jaxprs included."""
    largest = 0
    for equation in jaxpr.eqns:
        largest = max([largest, *(v.aval.size for v in equation.outvars)])
        for inner in jaxprs_in_params(equation.params):
            largest = max(largest, largest_array(inner))
    return largest


def test_the_fused_path_is_bitwise_deterministic():
    arrays = list(map(jnp.asarray, problem(0, 1.0)))
    first, second = ours(*arrays, FUSED), ours(*arrays, FUSED)
    jax.tree.map(np.testing.assert_array_equal, first, second)
