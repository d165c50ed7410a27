"""ntr_loss: the whole loss in one call, against float64 and under every form of its arguments."""

import jax
import jax.numpy as jnp
import loss_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.loss import ntr_loss


def problem(seed, scale=1.0, n=13, v=17, d=5, labels=2):
    rng = np.random.default_rng(seed)
    states = np.float32(rng.normal(size=(n, d)) * scale)
    items, bias = np.float32(rng.normal(size=(v, d))), np.float32(rng.normal(size=v))
    ids = rng.integers(-1, v, (n, labels)).astype(np.int32)
    kind = rng.integers(0, 3, (n, labels))  # positive, negative, without a weight
    r, w = (np.float32((kind == k) * rng.random((n, labels)) * 5) for k in (0, 1))
    return states, items, bias, ids, r, w


def expected(states, items, bias, ids, r, w, candidates=None, log_q=0.0):
    states, items = np.float64(states), np.float64(items)
    candidates = np.arange(len(items)) if candidates is None else candidates
    z = reference.logits(states, items[candidates], bias[candidates] - log_q, candidates, ids)
    at = np.maximum(ids, 0)
    label_logits = np.einsum("nd,nld->nl", states, items[at]) + bias[at]
    present = (ids >= 0) & (r + w > 0)
    total = reference.ntr_sum(label_logits, ids, reference.logsumexp(z), r, w)
    return total / max(present.sum(), 1)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from([0.0, 1.0, 30.0, 2e3]))
def test_it_agrees_with_float64_at_any_scale_of_logits(seed, scale):
    states, items, bias, ids, r, w = problem(seed, scale)
    for block_elements in (8_000_000, 1):  # fused, two passes
        value, gradients = jax.value_and_grad(
            lambda s, i, b, budget=block_elements: ntr_loss(
                s, i, ids, r, w, bias_V=b, block_elements=budget
            ),
            (0, 1, 2),
        )(states, items, bias)
        np.testing.assert_allclose(
            value, expected(states, items, bias, ids, r, w), rtol=2e-5, atol=1e-4
        )
        assert all(np.isfinite(x).all() for x in gradients)


def test_the_gradient_against_finite_differences():
    with jax.enable_x64(True):
        states, items, bias, ids, r, w = (
            x.astype(np.float64) if x.dtype == np.float32 else x for x in problem(1)
        )
        arrays, rng = [states, items, bias], np.random.default_rng(0)
        gradients = jax.jit(
            jax.grad(lambda s, i, b: ntr_loss(s, i, ids, r, w, bias_V=b), (0, 1, 2))
        )(*arrays)
        for place, gradient in enumerate(gradients):
            direction = rng.normal(size=arrays[place].shape)
            up, down = (
                expected(
                    *arrays[:place],
                    arrays[place] + e * direction,
                    *arrays[place + 1 :],
                    ids,
                    r,
                    w,
                )
                for e in (1e-6, -1e-6)
            )
            np.testing.assert_allclose(np.vdot(gradient, direction), (up - down) / 2e-6, rtol=1e-5)


def test_sampled_candidates_with_log_q():
    states, items, bias, ids, r, w = problem(2)
    rng = np.random.default_rng(0)
    candidates, log_q = rng.integers(0, 17, 40), np.float32(rng.normal(size=40))
    value = ntr_loss(
        states, items, ids, r, w, bias_V=bias, candidate_ids_S=candidates, log_q_S=log_q
    )
    np.testing.assert_allclose(
        value, expected(states, items, bias, ids, r, w, candidates, log_q), rtol=2e-5
    )


def test_one_label_a_state_may_be_flat():
    states, items, _, ids, r, w = problem(3, labels=1)
    column = ntr_loss(states, items, ids, r, w)
    flat = ntr_loss(states, items, ids[:, 0], r[:, 0], w[:, 0])
    np.testing.assert_array_equal(column, flat)


def test_absent_labels_cost_nothing_whatever_their_weights():
    states, items, bias, ids, r, w = problem(4)
    absent = np.where(np.arange(2) == 1, -1, ids)
    one = ntr_loss(states, items, ids[:, 0], r[:, 0], w[:, 0])
    np.testing.assert_allclose(ntr_loss(states, items, absent, r, w + 7 * (absent < 0)), one)
    nothing = jax.value_and_grad(lambda s: ntr_loss(s, items, 0 * ids - 1, r, w))(states)
    jax.tree.map(lambda x: np.testing.assert_array_equal(x, 0), nothing)


def test_what_would_be_silently_wrong_is_refused():
    states, items, bias, ids, r, w = problem(5, labels=1)
    flat = ids[:, 0]
    with pytest.raises(ValueError, match=r"r_NL has the shape \(13, 1\), label_ids_NL \(13,\)"):
        ntr_loss(states, items, flat, r, w)
    with pytest.raises(ValueError, match=r"w_NL has the shape \(13,\)"):
        ntr_loss(states, items, ids, r, w[:, 0])
    with pytest.raises(ValueError, match=r"give \(N, D\) and \(V, D\)"):
        ntr_loss(states, items[:, :-1], ids, r, w)
    with pytest.raises(ValueError, match="dtype float32: give integers"):
        ntr_loss(states, items, ids.astype(np.float32), r, w)
    with pytest.raises(ValueError, match=r"bias_V has the shape \(13,\): give \(17,\)"):
        ntr_loss(states, items, ids, r, w, bias_V=bias[:13])
    with pytest.raises(ValueError, match="belongs to candidate_ids_S"):
        ntr_loss(states, items, ids, r, w, log_q_S=bias)
    for wrong in (17, -2, 2**32 + 3):  # the last one is 3 in 32 bits
        with pytest.raises(ValueError, match=f"holds {wrong}: rows of items_VD are 0 to 16"):
            ntr_loss(states, items, np.full(13, wrong, np.int64), r[:, 0], w[:, 0])


def test_an_id_that_is_no_row_is_nan_under_jit():
    states, items, _, ids, _, _ = problem(6, labels=1)
    ones, loss = jnp.ones(ids.shape), jax.jit(ntr_loss)
    assert np.isfinite(loss(states, items, np.abs(ids), ones, ones))
    for wrong in (17, -2):
        assert np.isnan(loss(states, items, np.full_like(ids, wrong), ones, ones))
