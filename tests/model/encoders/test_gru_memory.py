"""The sum over the history: against a plain loop, across calls, resets and devices' rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from negflax.config import ModelConfig
from negflax.model.encoders.gru import GRU
from negflax.model.encoders.gru_memory import GRUMemory, sum_since_reset

B, T, D = 3, 9, 4
SIZES = {"dislike": 3}


def encoder(features=("dislike",), dropout=0.0, cls=GRUMemory):
    config = ModelConfig(
        hidden=5,
        embedding=D,
        feature_dim=2,
        features=features,
        dropout_input=dropout,
        dropout_output=dropout,
    )
    return cls(config, SIZES, rngs=nnx.Rngs(params=0))


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    return [
        jnp.asarray(rng.normal(size=(B, T, D)), jnp.float32),
        {"dislike": jnp.asarray(rng.integers(0, 3, (B, T)))},
        {},
        jnp.asarray(rng.random((B, T)) < 0.25).at[:, 0].set(True),
    ]


@pytest.mark.parametrize("features", [(), ("dislike",)])
def test_the_state_is_the_gru_and_a_weighted_sum(features):
    memory, items = encoder(features), inputs()
    if features:
        memory.memory_gate[...] = jnp.asarray([0.5, -2.0])
    states, (_, sums, events) = memory(*items)
    alone, _ = encoder(features, cls=GRU)(*items)
    items_BTD, ids, _, reset = map(np.asarray, items) if not features else items
    table = np.asarray(memory.features["dislike"][...]) if features else None
    for b in range(B):
        total, count = np.zeros(D), 0
        for t in range(T):
            if reset[b, t]:
                total, count = np.zeros(D), 0
            weight = 1.0
            if features:
                weight += table[ids["dislike"][b, t]] @ np.asarray(memory.memory_gate[...])
            total, count = total + weight * np.asarray(items_BTD[b, t]), count + 1
            expected = alone[b, t] + total / np.sqrt(count) @ np.asarray(memory.memory[...])
            np.testing.assert_allclose(states[b, t], expected, rtol=2e-5, atol=2e-6)
        np.testing.assert_allclose(sums[b], total, rtol=2e-5, atol=2e-6)
        assert events[b] == count


def test_events_in_two_calls_are_as_good_as_in_one():
    memory, (items, ids, _, reset) = encoder(), inputs()
    whole, last = memory(items, ids, {}, reset)
    head, middle = memory(items[:, :4], {"dislike": ids["dislike"][:, :4]}, {}, reset[:, :4])
    tail, end = memory(
        items[:, 4:], {"dislike": ids["dislike"][:, 4:]}, {}, reset[:, 4:], start=middle
    )
    np.testing.assert_allclose(jnp.concatenate([head, tail], axis=1), whole, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), end, last)


def test_a_reset_hides_everything_before_it():
    memory, (items, ids, _, reset) = encoder(), inputs()
    reset = reset.at[:, 4].set(True)
    other = items.at[:, :4].multiply(-3)
    one, two = (memory(x, ids, {}, reset)[0] for x in (items, other))
    np.testing.assert_array_equal(one[:, 4:], two[:, 4:])
    assert not np.array_equal(one[:, :4], two[:, :4])


def test_dropout_depends_on_the_global_row_alone():
    memory, (items, ids, _, reset) = encoder(dropout=0.5), inputs()
    options = {"dropout_seed": jnp.uint32(3)}
    whole, _ = memory(items, ids, {}, reset, **options)
    rows, _ = memory(
        items[1:], {"dislike": ids["dislike"][1:]}, {}, reset[1:], first_row=1, **options
    )
    np.testing.assert_allclose(rows, whole[1:], rtol=1e-6)


def test_sums_of_numbers_and_of_vectors():
    reset = jnp.asarray([[False, False, True, False]])
    x = jnp.asarray([[1.0, 2, 3, 4]])
    assert sum_since_reset(x, reset, None).tolist() == [[1, 3, 3, 7]]
    assert sum_since_reset(x, reset, jnp.asarray([10.0])).tolist() == [[11, 13, 3, 7]]
    vectors = sum_since_reset(x[..., None], reset, jnp.asarray([[10.0]]))
    assert vectors[..., 0].tolist() == [[11, 13, 3, 7]]
