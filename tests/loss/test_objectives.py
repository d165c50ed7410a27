"""Objectives against their formulas in float64, and the properties that set them apart."""

import functools

import jax
import jax.numpy as jnp
import loss_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.config import Config, ConfigError, from_config_dict
from negflax.loss import (
    OBJECTIVES,
    CandidateSet,
    ExtraColumns,
    KernelOptions,
    LabelBatch,
    Labels,
    Scalars,
    extra_columns,
    objective_sum,
    objectives,
)

SCALARS = Scalars(
    upweight=3.0,
    w_max=1.5,
    epsilon=1e-3,
    penalty=2.0,
    gamma=2.0,
    rho_max=5.0,
    top_k=4.0,
    gbce_t=0.75,
    sampling_rate=0.1,
    contrastive=0.3,
    inverse_temperature=2.0,
)
NAMES = tuple(OBJECTIVES)
EXTRA = np.zeros(3)
finite = st.floats(-1e4, 1e4, width=32)


def labels(m, z, r, w, extra=(), log_behaviour=-2.0):
    """One state with one label, lse = z − m."""
    one = functools.partial(jnp.full, (1, 1))
    return Labels(
        one(m), one(z), one(r), one(w), jnp.array(extra).reshape(1, 1, -1), one(log_behaviour)
    )


def value_and_slope(name, m, z, *rest):
    """(loss, ∂/∂z_y with lse and the other columns fixed)."""

    def of(z_y):
        return OBJECTIVES[name](labels(m + z_y - z, z_y, *rest), SCALARS)[0, 0]

    return jax.value_and_grad(of)(jnp.asarray(z))


@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_follow_the_formulas(name):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        ours = jitted(name)
        for _ in range(40):
            m, z = rng.normal(size=2) * 4
            r, w = rng.permutation([rng.random() * 3, 0.0])
            extra, beta = rng.normal(size=3) * 2, -rng.random() * 6
            expected = reference.objective(name, m, z, r, w, SCALARS, extra, beta)
            np.testing.assert_allclose(ours(m, z, r, w, extra, beta), expected, rtol=1e-9)


def test_the_push_on_a_negative_in_the_table_of_the_specification():
    # |∂L/∂z_y| per unit w at four logits (z_y, 0, 0, 1); p is .969, .175, .00143, 9.6e-6, 4.4e-10.
    printed = {
        "negative_weight": (0.0308, 0.825, 0.999, 1, 1),
        "ntr": (0.969, 0.175, 0.00143, 9.6e-6, 4.4e-10),
        "smoothed": (0.0308, 0.82, 0.587, 0.0095, 4.4e-7),
        "focal": (8.7e-5, 0.977, 1.01, 1, 1),
    }
    with jax.enable_x64(True):
        for name, expected in printed.items():
            for z, value in zip((5.0, 0.0, -5.0, -10.0, -20.0), expected, strict=True):
                m = z - np.log(2 + np.e)
                slope = abs(float(jitted(name)(m, z, 0.0, 1.0, EXTRA, -2.0)[1]))
                exact = abs(reference.objective(name, m, z, 0.0, 1.0, SCALARS)[1])
                assert f"{slope:.2e}" == f"{exact:.2e}"
                np.testing.assert_allclose(slope, value, rtol=8e-3)  # as many digits as printed


@settings(max_examples=60, deadline=None)
@given(st.lists(finite, min_size=4, max_size=4), finite, st.floats(0, 1e4, width=32))
def test_values_and_gradients_are_finite(others, z, w):
    """Four logits, the label and extra columns anywhere up to ±1e4, in float32."""
    lse = np.float32(reference.logsumexp(np.array([others]))[0])
    for name in NAMES:
        for r, weight in ((1.0, 0.0), (0.0, w)):
            found = jitted(name)(
                z - lse,
                np.float32(z),
                np.float32(r),
                np.float32(weight),
                np.float32(others[:2] + [-np.inf]),
                np.float32(-2),
            )
            assert np.isfinite(found).all(), (name, r)


@functools.cache
def jitted(name):
    return jax.jit(functools.partial(value_and_slope, name))


@jax.jit
def ntr_logit_gradient(z_V, w):
    """Of the first logit as the negative label."""
    return jax.grad(lambda z: objectives.ntr(z[0] - jax.nn.logsumexp(z[1:]), 0.0, w))(z_V)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-30, 30), min_size=7, max_size=7), st.floats(-30, 30), st.floats(0, 99))
def test_the_logit_gradient_of_ntr_has_l1_norm_2wp(others, z, w):
    logits = np.array([z, *others])

    with jax.enable_x64(True):
        gradient = ntr_logit_gradient(logits, w)
    p = np.exp(z - reference.logsumexp(logits[None])[0])
    np.testing.assert_allclose(np.abs(gradient).sum(), 2 * w * p, rtol=1e-6, atol=1e-12)


def test_what_happens_to_the_push_as_p_vanishes():
    vanishing = {
        "ntr",
        "smoothed",
        "probability_regularized",
        "contrastive",
        "gbce",
        "reinforce",
        "ssm",
        "ssm_upweighted",
    }
    for name in NAMES:
        slope = abs(float(jitted(name)(-60.0, -60.0, 0.0, 1.0, EXTRA, -2.0)[1]))
        assert (slope < 1e-10) == (name in vanishing), name


def test_special_cases():
    m, r, w = jnp.linspace(-6, 6, 9)[:, None], jnp.ones((9, 1)), jnp.full((9, 1), 2.0)
    extra = jnp.full((9, 1, 2), 1.5)
    same = functools.partial(np.testing.assert_allclose, rtol=1e-6)
    same(objectives.ssm_upweighted(m, r, w, extra, 0.0), objectives.ssm(m, r, w))
    same(objectives.smoothed(m, r, w, 0.0), objectives.negative_weight(m, r, w))
    same(objectives.focal(m, r, w, 0.0), objectives.negative_weight(m, r, w))
    same(objectives.contrastive(m, r, w, m, extra, 0.0, 1.0), objectives.ntr(m, r, w))
    same(objectives.negative_weight_limited(m, r, w, np.inf), objectives.negative_weight(m, r, w))
    on_policy = objectives.reinforce(m, r, 0 * w, -jax.nn.softplus(-m), 10.0, 1.0)
    same(on_policy, objectives.ssm(m, r, w))


@pytest.mark.parametrize("name", ["ssm_upweighted", "contrastive", "gbce"])
def test_extra_columns_reach_states_and_items_on_both_paths(name):
    n, s, d, e = 21, 12, 4, 3
    rng = np.random.default_rng(1)
    states, items = rng.normal(size=(n, d)), rng.normal(size=(s, d))
    ids, own = rng.integers(0, s, (n, 2)), rng.integers(-1, s, (n, e))
    own[:, 1:][own[:, 1:] == own[:, :1]] = -1  # each at most once a state
    own[:, 2][own[:, 2] == own[:, 1]] = -1
    r, w = rng.permutation([[1.0, 0.0], [0.0, 2.0]])[:, rng.integers(0, 2, n)].T, np.ones((n, 2))

    def ours(states, items, budget):
        take = lambda x: jnp.einsum("nd,nkd->nk", states, items[np.maximum(x, 0)])  # noqa: E731
        return objective_sum(
            OBJECTIVES[name],
            states,
            LabelBatch(ids, take(ids), r, w, ExtraColumns(take(own), own)),
            CandidateSet(items, jnp.zeros(s), np.arange(s)),
            scalars=SCALARS,
            options=KernelOptions(block_elements=budget),
        )[0]

    def expected(states, items):
        total = 0.0
        for n, z in enumerate(states @ items.T):
            for i, y in enumerate(ids[n]):
                lse = reference.logsumexp(np.delete(z, y)[None])[0]
                extra = [z[k] for k in own[n] if k not in (-1, y)]
                # gbce divides by its K, absent ones counted as well
                share = (len(extra) + 1) / (e + 1) if name == "gbce" else 1.0
                value = reference.objective(
                    name, z[y] - lse, z[y], r[n, i], w[n, i], SCALARS, extra
                )[0]
                total += share * value
        return total

    with jax.enable_x64(True):
        for budget in (8_000_000, 1):
            value, gradients = jax.jit(
                jax.value_and_grad(functools.partial(ours, budget=budget), (0, 1))
            )(states, items)
            np.testing.assert_allclose(value, expected(states, items), rtol=1e-9)
            for place, gradient in enumerate(gradients):
                arrays = [[states, items], [states, items]]
                direction = rng.normal(size=gradient.shape)
                for pair, sign in zip(arrays, (1e-6, -1e-6), strict=True):
                    pair[place] = pair[place] + sign * direction
                slope = (expected(*arrays[0]) - expected(*arrays[1])) / 2e-6
                np.testing.assert_allclose(np.vdot(gradient, direction), slope, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_learns_liked_items_in_a_free_table(name):
    users, items = 8, 12
    liked, disliked = np.arange(users) % items, (np.arange(users) + 5) % items
    ids = np.stack([liked, disliked], 1)
    r, w = jnp.tile(jnp.array([1.0, 0]), (users, 1)), jnp.tile(jnp.array([0, 0.3]), (users, 1))
    logits = jnp.zeros((users, items))

    def loss(z_NV):
        take = functools.partial(jnp.take_along_axis, z_NV, axis=1)
        # A one-hot state per user: its candidates' logits are a row of the table.
        return objective_sum(
            OBJECTIVES[name],
            jnp.eye(users),
            LabelBatch(
                ids_NL=ids,
                logits_NL=take(ids),
                r_NL=r,
                w_NL=w,
                extra=ExtraColumns(take(ids[:, 1:]), ids[:, 1:]),
                log_behaviour_NL=jnp.full((users, 2), -1.0),
            ),
            CandidateSet(z_NV.T, jnp.zeros(items), np.arange(items)),
            scalars=SCALARS,
        )[0]

    step = jax.jit(lambda z: z - 0.5 * jax.grad(loss)(z))
    for _ in range(60):
        logits = step(logits)
    users = np.arange(users)
    assert np.isfinite(logits).all()
    assert (logits[users, liked] > logits[users, disliked] + 0.5).all() or name == "ssm"
    assert (logits[users, liked] > 0.5).all()


newest_negatives = jax.jit(extra_columns.recent_negatives, static_argnums=2)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16))
def test_recent_negatives_against_a_loop(seed):
    slots, count, rng = 2, 3, np.random.default_rng(seed)
    negative, reset = rng.random((3, 12, slots)) < 0.4, rng.random((3, 12)) < 0.2
    found = newest_negatives(negative, reset, count)
    for b in range(3):
        newest = []
        for t in range(12):
            newest = [] if reset[b, t] else newest
            for label in range(slots):
                newest = ([t * slots + label] if negative[b, t, label] else []) + newest
            expected = (newest + [-1] * count)[:count]
            np.testing.assert_array_equal(found[b, t], expected)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"loss": {"objective": "reinforce"}}, "set config.model.behaviour_head = True"),
        ({"loss": {"objective": "gbce"}}, "set config.loss.candidates = 'uniform'"),
        ({"loss": {"objective": "gbce", "candidates": "uniform", "num_candidates": 8}}, "at most"),
        ({"loss": {"objective": "negative_weight_limited"}}, "set config.loss.w_max above 0"),
        ({"loss": {"negative_candidates": "uncorrected"}}, "needs sampled candidates"),
        ({"loss": {"temperature": 0.0}}, "a number above 0"),
        ({"loss": {"gbce_t": 1.5}}, "from 0 to 1"),
        ({"model": {"behaviour_head": True}}, "is used only by 'reinforce'"),
    ],
)
def test_settings_that_cannot_work_are_refused(sections, said):
    with pytest.raises(ConfigError, match=said):
        from_config_dict(sections)


def test_the_config_knows_the_objectives():
    for name in NAMES:
        loss = {"objective": name, "candidates": "uniform", "w_max": 5.0}
        model = {"behaviour_head": name == "reinforce"}
        assert isinstance(from_config_dict({"loss": loss, "model": model}), Config)
