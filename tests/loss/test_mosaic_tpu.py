import jax
import jax.numpy as jnp
import loss_reference as reference
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from negflax.loss.kernels.mosaic_tpu import logsumexp

SHAPES = [(1, 1, 1, 1), (300, 290, 5, 2), (1100, 1300, 70, 3)]  # N, S, D, L; last: 3 × 2 tiles


def problem(shape, scale, dtype=np.float32):
    """Logits up to ± scale, repeated ids, removed candidates, a label in most states."""
    n, s, d, labels = shape
    rng = np.random.default_rng(n)
    states, candidates = rng.normal(size=(n, d)), rng.normal(size=(s, d))
    states *= scale / np.abs(states @ candidates.T).max()
    bias = np.where(rng.random(s) < 0.1, -np.inf, rng.normal(size=s)).astype(np.float32)
    ids = rng.integers(0, max(1, s // 2), s).astype(np.int32)
    exclude = rng.integers(-1, max(1, s // 2), (n, labels)).astype(np.int32)
    return states.astype(dtype), candidates.astype(dtype), bias, ids, exclude


def run(states, candidates, bias, ids, exclude, g, function=logsumexp):
    """(lse, (∂states, ∂candidates, ∂bias)) of Σ g·lse."""
    lse, pullback = jax.vjp(lambda *x: function(*x, ids, exclude), states, candidates, bias)
    return lse, pullback(g)


def agrees(arrays, lse, gradients, g, tolerance):
    """With float64, relative to the largest entry of each."""
    exact = [np.asarray(x, np.float64) for x in arrays[:3]] + list(arrays[3:])
    expected = reference.logsumexp(reference.logits(*exact))
    left = ~np.isneginf(expected)
    np.testing.assert_array_equal(np.isneginf(lse), ~left)
    bound = 1e-5 * np.maximum(1, np.abs(expected[left]))
    assert (np.abs(np.asarray(lse)[left] - expected[left]) <= bound).all()
    for ours, theirs in zip(gradients, reference.logsumexp_gradients(*exact, g), strict=True):
        ours = np.asarray(ours, np.float64)
        np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max(), rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_float64_values_and_gradients(shape, interpreter):
    g = np.random.default_rng(0).normal(size=shape[0]).astype(np.float32)
    jitted = jax.jit(run)
    for scale in (1.0, 200.0, 1e4):
        arrays = problem(shape, scale)
        # A float32 logit of 1e4 is off by up to 1e-3, and a softmax by as much, relatively.
        agrees(arrays, *jitted(*arrays, g), g, 1e-5 if scale <= 200 else 1e-3)


def test_bfloat16(interpreter):
    arrays = problem((300, 290, 5, 2), 20.0, jnp.bfloat16)
    g = np.ones(300, np.float32)
    lse, gradients = jax.jit(run)(*arrays, g)
    assert [x.dtype for x in (lse, *gradients)] == ["float32", "bfloat16", "bfloat16", "float32"]
    agrees(arrays, lse, gradients, g, 1e-2)


def test_no_candidate_left_gives_minus_infinity_and_no_gradient(interpreter):
    states, candidates = jnp.ones((3, 2)), jnp.ones((4, 2))
    ids, exclude = jnp.full(4, 7, jnp.int32), jnp.array([[7], [7], [1]], jnp.int32)
    # The cotangent that logaddexp(−inf, −inf) sends back is NaN.
    g = jnp.array([1.0, jnp.nan, 1.0])
    jitted = jax.jit(run)
    lse, gradients = jitted(states, candidates, jnp.zeros(4), ids, exclude, g)
    np.testing.assert_array_equal(np.isneginf(lse), [True, True, False])
    np.testing.assert_array_equal(gradients[0][:2], 0)
    np.testing.assert_allclose(gradients[2], 0.25)
    assert all(np.isfinite(x).all() for x in gradients)
    removed = jnp.full(4, -jnp.inf)
    lse, gradients = jitted(states, candidates, removed, ids, exclude, jnp.ones(3))
    assert np.isneginf(lse).all() and all((x == 0).all() for x in gradients)


def test_states_that_pad_a_tile_weigh_nothing_under_a_large_bias(interpreter):
    # Their logits are the bias: exp(1000) · 0 would be NaN.
    states, candidates, bias, *masks = problem((5, 7, 3, 1), 1.0)
    arrays, g = (states, candidates, bias + np.float32(1000), *masks), np.ones(5, np.float32)
    agrees(arrays, *jax.jit(run)(*arrays, g), g, 1e-3)


@pytest.mark.parametrize("shape", [(0, 5, 4, 1), (2, 0, 4, 1), (2, 3, 4, 0)])
def test_empty_inputs(shape, interpreter):
    n, s, d, labels = shape
    arrays = jnp.ones((n, d)), jnp.ones((s, d)), jnp.zeros(s), jnp.arange(s), jnp.zeros((n, labels))
    lse, gradients = jax.jit(run)(*arrays[:4], arrays[4].astype(int), jnp.ones(n))
    np.testing.assert_allclose(lse, np.full(n, 4 + np.log(s) if s else -np.inf), rtol=1e-6)
    assert [x.shape for x in gradients] == [(n, d), (s, d), (s,)]


def test_64_bit_ids_are_compared_as_integers(interpreter):
    with jax.enable_x64(True):
        words = np.array([0, 1, 2**32, 2**32 + 1, 2**62, 2**62 + 1, -1, -(2**32)])
        exclude = np.stack([words, np.roll(words, 1)], axis=1)
        arrays = np.eye(8, 3), np.eye(8, 3), np.zeros(8), words, exclude
        arrays = [x.astype(np.float32) if x.dtype == np.float64 else x for x in arrays]
        g = np.ones(8, np.float32)
        agrees(arrays, *jax.jit(run)(*arrays, g), g, 1e-6)


def test_parts_on_two_devices_combine_by_logaddexp(interpreter):
    arrays, g = problem((40, 64, 9, 2), 30.0), np.ones(40, np.float32)

    def total(*arrays):
        return jnp.logaddexp(*jax.lax.all_gather(logsumexp(*arrays), "table"))

    mesh = jax.make_mesh((2,), ("table",), (AxisType.Auto,), devices=jax.devices()[:2])
    split = P("table")
    sharded = jax.shard_map(
        total, mesh=mesh, in_specs=(P(), split, split, split, P()), out_specs=P(), check_vma=False
    )
    agrees(arrays, *jax.jit(lambda *x: run(*x, sharded))(*arrays, g), g, 1e-5)


def test_the_same_bits_without_a_race_from_one_core_and_from_two(capsys):
    arrays = *problem(SHAPES[-1], 30.0), np.ones(1100, np.float32)
    results = []
    for cores in (1, 2):
        params = pltpu.InterpretParams(
            detect_races=True, num_cores_or_threads=cores, random_seed=cores
        )
        with pltpu.force_tpu_interpret_mode(params):
            results.append(jax.jit(lambda *x: run(*x))(*arrays))
    jax.tree.map(np.testing.assert_array_equal, *results)
    assert "RACE" not in capsys.readouterr().out


def shapes(n, s, d, dtype):
    arrays = problem((n, s, d, 2), 1.0, dtype)
    return [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays]


def gradient(*arrays):
    return jax.grad(lambda *x: logsumexp(*x, *arrays[3:]).sum(), (0, 1, 2))(*arrays[:3])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("d", [64, 128, 256])
def test_lowers_for_the_tpu(d, dtype):
    for function, kernels in ((logsumexp, 1), (gradient, 2)):
        traced = jax.jit(lambda *x, f=function: f(*x)).trace(*shapes(700, 900, d, dtype))
        text = traced.lower(lowering_platforms=("tpu",)).as_text()
        assert text.count("@tpu_custom_call") == kernels


def sizes(jaxpr):
    """Elements of every array in a jaxpr and the jaxprs within."""
    for equation in jaxpr.eqns:
        yield from (v.aval.size for v in equation.outvars if hasattr(v.aval, "size"))
        for value in jax.tree.leaves(list(equation.params.values())):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from sizes(inner)


def test_no_array_of_states_times_candidates():
    n, s, d = 4096, 4096, 64
    found = list(sizes(jax.make_jaxpr(gradient)(*shapes(n, s, d, jnp.float32)).jaxpr))
    assert max(found) == n * 128  # a padded operand; next come the tiles of logits
    assert 512 * 512 in found and n * s >= 8 * max(found)


def test_other_dtypes_are_refused_by_name():
    arrays = problem((3, 4, 5, 1), 1.0, np.float16)
    with pytest.raises(ValueError, match="float16.* float32 or bfloat16"):
        logsumexp(*arrays)
