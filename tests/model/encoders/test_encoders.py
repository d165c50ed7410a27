"""Every built-in encoder: across calls, resets and devices' rows; its cells against plain loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from negflax.config import Config, ConfigError, ModelConfig, check
from negflax.model import encoders
from negflax.model.encoders import recurrent_cells as cells
from negflax.model.encoders.linear_recurrence import linear_scan
from negflax.model.encoders.recurrence import recurrence

B, T, D = 2, 9, 4
KINDS = [
    ("gru", 1),
    ("gru", 3),
    ("gru_memory", 2),
    ("lstm", 1),
    ("lstm", 2),
    ("cfn", 2),
    ("rglru", 2),
    ("attention", 2),
]


def model_config(kind, layers, rate=0.0):
    return ModelConfig(
        encoder=kind,
        layers=layers,
        hidden=6,
        heads=2,
        context=T,
        embedding=D,
        feature_dim=2,
        features=("dislike",),
        dropout_input=rate,
        dropout_output=rate,
    )


@functools.cache
def compiled(kind, layers, rate=0.0):
    """(encoder, jitted call): parameters are random enough that all of them count."""
    config = model_config(kind, layers, rate)
    encoders.graph_of(config, {"dislike": 3})
    encoder = encoders.build(config, {"dislike": 3}, jax.random.key(0))
    return jax.jit(lambda *inputs, **options: encoder(*inputs, **options))


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    return (
        jnp.asarray(rng.normal(size=(B, T, D)), jnp.float32),
        {"dislike": jnp.asarray(rng.integers(0, 3, (B, T)))},
        {},
        jnp.asarray(rng.random((B, T)) < 0.2),
    )


def part(batch, piece):
    items, ids, vectors, reset = batch
    return items[:, piece], {k: x[:, piece] for k, x in ids.items()}, vectors, reset[:, piece]


@pytest.mark.parametrize(("kind", "layers"), KINDS)
def test_events_in_several_calls_are_as_good_as_in_one(kind, layers):
    call, batch = compiled(kind, layers), inputs()
    whole, last = call(*batch)
    states, start = [], None
    for piece in (slice(0, 4), slice(4, 5), slice(5, T)):
        found, start = call(*part(batch, piece), start=start)
        states.append(found)
    np.testing.assert_allclose(jnp.concatenate(states, axis=1), whole, rtol=1e-5, atol=1e-5)
    if kind != "attention":  # which keeps events of earlier users, and does not look at them
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), start, last)


@pytest.mark.parametrize(("kind", "layers"), KINDS)
def test_a_state_depends_only_on_the_past_of_its_user(kind, layers):
    call, (items, ids, none, reset) = compiled(kind, layers), inputs()
    states, _ = call(items, ids, none, reset)
    later, _ = call(items.at[:, 6:].multiply(-3), ids, none, reset)
    np.testing.assert_array_equal(states[:, :6], later[:, :6])
    reset = reset.at[:, 4].set(True)
    one, two = (call(x, ids, none, reset)[0] for x in (items, items.at[:, :4].multiply(-3)))
    np.testing.assert_allclose(one[:, 4:], two[:, 4:], atol=1e-6)
    assert not np.array_equal(one[:, :4], two[:, :4])


@pytest.mark.parametrize(("kind", "layers"), KINDS)
def test_dropout_depends_on_the_global_row(kind, layers):
    call, batch = compiled(kind, layers, 0.3), inputs()
    seed = jnp.uint32(5)
    whole, _ = call(*batch, dropout_seed=seed, first_row=3)
    items, ids, none, reset = batch
    row = items[1:], {k: x[1:] for k, x in ids.items()}, none, reset[1:]
    alone, _ = call(*row, dropout_seed=seed, first_row=4)
    np.testing.assert_allclose(alone, whole[1:], atol=1e-6)
    assert not np.allclose(whole, call(*batch)[0])


def plain_scan(cell, inputs_TBG, recurrent_HG, reset_TB, start):
    """The layer as written, one step after the other."""
    carry, found = start, []
    for x_BG, reset_B in zip(inputs_TBG, reset_TB, strict=True):
        carry = tuple(jnp.where(reset_B[:, None], 0, x) for x in carry)
        carry = cell(x_BG, carry[0] @ recurrent_HG, carry)
        found.append(carry)
    return tuple(jnp.stack(x) for x in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("cell", "parts", "gates", "carried"),
    [(cells.gru, 3, 3, 1), (cells.lstm, 4, 4, 2), (cells.cfn, 3, 2, 1)],
)
def test_a_recurrence_has_the_gradient_of_the_loop(cell, parts, gates, carried):
    h = 3
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, u = (jnp.asarray(rng.normal(size=s)) for s in ((T, B, parts * h), (h, gates * h)))
        start = tuple(jnp.asarray(rng.normal(size=(B, h))) for _ in range(carried))
        reset = jnp.asarray(rng.random((T, B)) < 0.3)
        weight = jnp.asarray(rng.normal(size=(carried, T, B, h)))

        def total(function):
            return lambda x, u, start: sum(
                jnp.vdot(a, b)
                for a, b in zip(function(cell, x, u, reset, start), weight, strict=True)
            )

        ours, slow = (
            jax.jit(jax.value_and_grad(total(f), (0, 1, 2)))(x, u, start)
            for f in (recurrence, plain_scan)
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), ours, slow)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_cells_equal_the_equations_of_the_papers():
    rng = np.random.default_rng(1)
    x, g = rng.normal(size=(2, 5, 4 * 3))
    h, c = rng.normal(size=(2, 5, 3))
    i, f, o, new = np.split(x + g, 4, axis=1)
    after = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(new)
    found = cells.lstm(jnp.asarray(x), jnp.asarray(g), (jnp.asarray(h), jnp.asarray(c)))
    np.testing.assert_allclose(found[1], after, atol=1e-6)
    np.testing.assert_allclose(found[0], sigmoid(o) * np.tanh(after), atol=1e-6)
    x, g = x[:, :9], g[:, :6]
    theta, eta = np.split(sigmoid(x[:, :6] + g), 2, axis=1)
    (found,) = cells.cfn(jnp.asarray(x), jnp.asarray(g), (jnp.asarray(h),))
    np.testing.assert_allclose(found, theta * np.tanh(h) + eta * np.tanh(x[:, 6:]), atol=1e-6)


def test_the_parallel_scan_equals_a_loop():
    rng = np.random.default_rng(2)
    a, b = rng.random((B, T, 3)), rng.normal(size=(B, T, 3))
    reset, h = rng.random((B, T)) < 0.3, rng.normal(size=(B, 3))
    found = linear_scan(*map(jnp.asarray, (a, b, reset, h)))
    for t in range(T):
        h = a[:, t] * np.where(reset[:, t, None], 0, h) + b[:, t]
        np.testing.assert_allclose(found[:, t], h, atol=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "cfn", "rglru", "attention"])
def test_outputs_and_gradients_are_finite(kind):
    encoder = encoders.build(model_config(kind, 2), {"dislike": 3}, jax.random.key(0))
    graph, parameters = nnx.split(encoder)
    items, *rest = inputs()

    @jax.jit
    def total(parameters, items):
        return (nnx.merge(graph, parameters)(items, *rest)[0] ** 2).sum()

    for scale in (0, 1e-20, 1e4):
        found = jax.value_and_grad(total, (0, 1))(parameters, items * scale)
        assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(found))


def test_heads_must_divide_the_width():
    model = ModelConfig(encoder="attention", hidden=6, heads=4)
    with pytest.raises(ConfigError, match="heads = 4 does not divide config.model.hidden = 6"):
        check(Config(model=model))
