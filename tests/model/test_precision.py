"""config.model.precision: bfloat16 products, float32 around them."""

import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negflax.config import Config, ConfigError, ModelConfig
from negflax.config.checks import check
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.model.encoders import products
from negflax.model.encoders.products import matmul, precision
from negflax.train.plan import Sizes
from negflax.train.step import Trainer

RNG = np.random.default_rng(0)


def values(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def test_products_and_their_gradients_are_rounded_and_summed_in_float32():
    x, kernel, g = values(3, 40, 16), values(16, 8), values(3, 40, 8)

    def both(name):
        out, vjp = jax.vjp(lambda x, kernel: matmul(x, kernel, name), x, kernel)
        return out, *vjp(g)

    def exact(x, kernel, g):
        x, kernel, g = (np.float64(np.asarray(a, np.float32)) for a in (x, kernel, g))
        return x @ kernel, g @ kernel.T, np.einsum("bti,bto->io", x, g)

    np.testing.assert_array_equal(both("float32")[0], x @ kernel)
    half = [a.astype(jnp.bfloat16) for a in (x, kernel, g)]
    for ours, rounded, full in zip(
        both("bfloat16"), exact(*half), exact(x, kernel, g), strict=True
    ):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, rounded, rtol=1e-5, atol=1e-5)
        assert np.abs(ours - full).max() > 1e-4


@pytest.mark.parametrize("encoder", ["gru", "lstm"])
def test_an_encoder_reads_it_and_hands_out_float32(encoder):
    config = dataclasses.replace(Config().model, encoder=encoder, hidden=16, embedding=16)
    inputs = values(2, 5, 16)
    states = {}
    for name in ("float32", "bfloat16"):
        with precision(name):
            from negflax.model import encoders  # noqa: PLC0415

            module = encoders.build(
                config, {"dislike": 3, "dwell": 3, "watch_ratio": 3, "gap": 3}, jax.random.key(0)
            )
            ids = {feature: jnp.ones((2, 5), jnp.int32) for feature in config.features}
            states[name], _ = module(inputs, ids, {}, jnp.zeros((2, 5), bool))
    assert states["bfloat16"].dtype == jnp.float32
    off = np.abs(states["bfloat16"] - states["float32"])
    assert 1e-6 < off.max() < 3e-2


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"loss": {"implementation": "mosaic_gpu"}}, "config.model.precision = 'bfloat16'"),
        ({"model": {"precision": "bfloat16", "dtype": "float64"}}, "summed in float32"),
        ({"model": {"dtype": "float64"}, "loss": {"implementation": "mosaic_tpu"}}, "no float64"),
    ],
)
def test_a_kernel_that_does_not_support_the_config_is_an_error(sections, said):
    config = Config()
    new = {k: dataclasses.replace(getattr(config, k), **v) for k, v in sections.items()}
    with pytest.raises(ConfigError, match=said):
        check(dataclasses.replace(config, **new))


def test_a_kernel_of_another_platform_is_an_error():
    config = Config()
    loss = dataclasses.replace(config.loss, implementation="mosaic_tpu")
    config = dataclasses.replace(config, loss=loss)
    sizes = Sizes(20, dict.fromkeys(config.model.features, 3))
    with pytest.raises(ConfigError, match="runs on a tpu"):
        Trainer(config, Recommender(config.model, sizes), np.ones(20), 1, make_mesh(config.mesh))


@pytest.mark.parametrize(
    ("platform", "flags", "dtype", "expected"),
    [
        ("cpu", "avx2 avx512_bf16", "float32", "bfloat16"),
        ("cpu", "amx_bf16", "float32", "bfloat16"),
        ("cpu", "avx2 avx512f", "float32", "float32"),
        ("cpu", "amx_bf16", "float64", "float32"),
        ("tpu", "", "float32", "bfloat16"),
    ],
)
def test_auto_is_what_the_devices_are_fast_at(platform, flags, dtype, expected):
    config = ModelConfig(precision="auto", dtype=dtype)
    products._cpu_multiplies_bfloat16.cache_clear()
    with (
        mock.patch.object(products, "platform", return_value=platform),
        mock.patch.object(products.Path, "read_text", return_value=flags),
    ):
        assert products.in_force(config) == expected
    products._cpu_multiplies_bfloat16.cache_clear()
