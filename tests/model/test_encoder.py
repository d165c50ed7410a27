import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negflax.config import ModelConfig
from negflax.data import Batch, Catalogue
from negflax.model import Recommender
from negflax.model.encoders.dropout import dropout
from negflax.model.encoders.gru_cell import gru

T, B, H = 7, 3, 4


def slow_gru(inputs, recurrent, bias, reset, start):
    """The cell as written, differentiated by JAX."""
    state, states = start, []
    for t in range(len(inputs)):
        state = jnp.where(reset[t][:, None], 0, state)
        g = state @ recurrent
        r = jax.nn.sigmoid(inputs[t][:, :H] + g[:, :H])
        z = jax.nn.sigmoid(inputs[t][:, H : 2 * H] + g[:, H : 2 * H])
        n = jnp.tanh(inputs[t][:, 2 * H :] + r * (g[:, 2 * H :] + bias))
        state = n + z * (state - n)
        states.append(state)
    return jnp.stack(states)


def test_gru_values_and_gradients():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        arguments = [
            jnp.asarray(rng.normal(size=shape)) for shape in ((T, B, 3 * H), (H, 3 * H), (H,))
        ]
        reset, start = jnp.asarray(rng.random((T, B)) < 0.3), jnp.asarray(rng.normal(size=(B, H)))
        weight = jnp.asarray(rng.normal(size=(T, B, H)))

        def total(function):
            return lambda x, u, b, s: jnp.vdot(function(x, u, b, reset, s), weight)

        ours, slow = (
            jax.jit(jax.value_and_grad(total(f), (0, 1, 2, 3)))(*arguments, start)
            for f in (gru, slow_gru)
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), ours, slow)


def test_a_reset_hides_everything_before_it():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(T, B, 3 * H))
    other = np.concatenate([rng.normal(size=(4, B, 3 * H)), inputs[4:]])
    reset = np.zeros((T, B), bool)
    reset[4] = True
    rest = rng.normal(size=(H, 3 * H)), rng.normal(size=H), jnp.asarray(reset), jnp.ones((B, H))
    np.testing.assert_array_equal(gru(inputs, *rest)[4:], gru(other, *rest)[4:])


def test_dropout_depends_on_the_global_row_alone():
    x, seed = jnp.ones((8, 5, 6)), jnp.uint32(7)
    whole = dropout(x, 0.25, seed, jnp.int32(0))
    np.testing.assert_array_equal(whole[3:], dropout(x[3:], 0.25, seed, jnp.int32(3)))
    assert not np.array_equal(whole, dropout(x, 0.25, jnp.uint32(8), jnp.int32(0)))
    many = np.asarray(dropout(jnp.ones((100, 100, 50)), 0.25, seed, jnp.int32(0)))
    np.testing.assert_allclose((many == 0).mean(), 0.25, atol=0.003)
    np.testing.assert_allclose(many.mean(), 1.0, atol=0.005)
    np.testing.assert_array_equal(dropout(x, 0.0, seed, jnp.int32(0)), x)


def make_model(**changes):
    catalogue = Catalogue(
        item_ids=np.arange(9),
        creator_V=np.arange(10, dtype=np.int32) % 4,
        clusters_VC=np.arange(10, dtype=np.int32)[:, None] % 3,
        train_count_V=np.ones(10, np.int64),
    )
    return Recommender(ModelConfig(hidden=4, embedding=4, feature_dim=2, **changes), catalogue)


@pytest.mark.parametrize("tied", [True, False])
def test_tables_and_lookups_agree(tied):
    model = make_model(tied=tied, features=("dislike", "creator", "cluster"))
    batch = Batch(*[np.zeros((2, 3), np.int32)] * 10, *[np.zeros((2, 3, 1), np.int32)] * 3)
    uses = model.lookups(batch, jnp.zeros(5, jnp.int32))
    assert set(uses) == set(model.tables)
    assert set(uses["item"]) == ({"input", "label", "candidate"} if tied else {"input"})
    assert model.tables[model.output_table].width == 5  # with the bias column
    assert {name: model.tables[name].num_rows for name in ("creator", "cluster")} == {
        "creator": 4,
        "cluster": 3,
    }


def test_a_feature_left_out_is_not_seen():
    model = make_model(features=("dwell",))
    dense = model.init_dense(jax.random.key(0))
    batch = Batch(
        *[np.ones((2, 3), np.int32)] * 9,
        np.zeros((2, 3), bool),
        *[np.zeros((2, 3, 1), np.int32)] * 3,
    )
    vectors = {"input": jnp.ones((2, 3, 4))}
    states, last = model.states(dense, vectors, batch)
    disliked, _ = model.states(dense, vectors, batch._replace(dislike_BT=2 * batch.dislike_BT))
    np.testing.assert_array_equal(states, disliked)
    np.testing.assert_array_equal(states[:, -1], last)
    dwelt, _ = model.states(dense, vectors, batch._replace(dwell_BT=3 * batch.dwell_BT))
    assert not np.array_equal(states, dwelt)


def test_the_latent_cross_multiplies_the_item_by_what_was_done_with_it():
    rng = np.random.default_rng(0)
    plain = make_model(features=("dislike", "dwell"))
    crossed = make_model(features=("dislike", "dwell"), latent_cross=True)
    dense = crossed.init_dense(jax.random.key(0))
    item_BTD, w_FD = (rng.normal(size=x).astype(np.float32) for x in ((2, 3, 4), (4, 4)))
    codes = {name: rng.integers(0, 3, (2, 3)) for name in ("dislike", "dwell")}
    batch = Batch(
        *[np.zeros((2, 3), np.int32)] * 9,
        np.zeros((2, 3), bool),
        *[np.zeros((2, 3, 1), np.int32)] * 3,
    )
    batch = batch._replace(**{f"{name}_BT": x for name, x in codes.items()})
    without = {name: x for name, x in dense.items() if name != "cross"}
    start, _ = crossed.states(dense, {"input": item_BTD}, batch)
    np.testing.assert_array_equal(start, plain.states(without, {"input": item_BTD}, batch)[0])
    context = np.concatenate([dense["features"][k][codes[k]] for k in codes], axis=-1)
    expected, _ = plain.states(without, {"input": item_BTD * (1 + context @ w_FD)}, batch)
    found, _ = crossed.states(dense | {"cross": jnp.asarray(w_FD)}, {"input": item_BTD}, batch)
    np.testing.assert_allclose(found, expected, atol=1e-5)
