import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negflax.config import ModelConfig
from negflax.data.features import REQUEST_VALUES
from negflax.model import request_time

CONFIG = ModelConfig(embedding=4, feature_dim=3, request=("weekday", "gap"))
COLUMNS = {"weekday": 2, "gap": 0}


def test_against_numpy():
    rng = np.random.default_rng(0)
    parameters = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype),
        request_time.init(CONFIG, jax.random.key(0)),
    )
    states = rng.normal(size=(5, 6, 4)).astype(np.float32)
    codes = rng.integers(0, tuple(REQUEST_VALUES.values()), (5, 6, 3)).astype(np.int32)
    tables = {name: np.asarray(x, np.float64) for name, x in parameters["embeddings"].items()}
    context = np.concatenate(
        [tables[name][codes[..., COLUMNS[name]]] for name in CONFIG.request], axis=-1
    )
    cross, shift = (np.asarray(parameters[name], np.float64) for name in ("cross", "shift"))
    expected = states * (1 + context @ cross) + context @ shift
    found = request_time.apply(parameters, states, codes, CONFIG)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_at_first_the_time_changes_nothing_and_then_learns():
    parameters = request_time.init(CONFIG, jax.random.key(1))
    states, codes = jnp.ones((2, 4)), jnp.ones((2, 3), jnp.int32)
    np.testing.assert_array_equal(request_time.apply(parameters, states, codes, CONFIG), states)
    gradient = jax.grad(lambda p: request_time.apply(p, states, codes, CONFIG).sum())(parameters)
    assert all(np.abs(gradient[name]).min() > 0 for name in ("cross", "shift"))


def test_times_that_nobody_knows_are_an_error():
    parameters = request_time.init(CONFIG, jax.random.key(0))
    with pytest.raises(ValueError, match=r"config\.model\.request"):
        request_time.apply(parameters, jnp.ones((2, 4)), None, CONFIG)
