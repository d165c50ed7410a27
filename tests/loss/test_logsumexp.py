import functools

import jax
import jax.numpy as jnp
import loss_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.config import MeshConfig
from negflax.loss import KernelOptions, candidate_logsumexp, combine_over
from negflax.mesh import AXES, COPIED, SPLIT, make_mesh

DEFAULTS = KernelOptions()
SHAPES = [(1, 1, 1, 1), (5, 7, 3, 2), (33, 65, 9, 1), (300, 290, 5, 2)]  # N, S, D, L


def problem(shape, scale, seed, dtype=np.float32):
    """Random states, candidates with duplicate ids, labels among them; logits up to about scale."""
    n, s, d, labels = shape
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(n, d)).astype(dtype)
    candidates = rng.normal(size=(s, d)).astype(dtype)
    top = max(np.abs(states @ candidates.T).max(), 1e-6)
    states = (states * (scale / top)).astype(dtype)
    bias = rng.normal(size=s).astype(np.float64 if dtype == "float64" else np.float32)
    ids = rng.integers(0, max(1, s // 2), s).astype(np.int32)
    exclude = rng.integers(-1, max(1, s // 2), (n, labels)).astype(np.int32)
    return states, candidates, bias, ids, exclude


@functools.partial(jax.jit, static_argnames=("options",))
def run(states, candidates, bias, ids, exclude, g, options=DEFAULTS):
    def total(states, candidates, bias):
        lse = candidate_logsumexp(
            states,
            candidates,
            bias_S=bias,
            candidate_ids_S=ids,
            exclude_ids_NL=exclude,
            options=options,
        )
        return jnp.vdot(jnp.where(jnp.isneginf(lse), 0, lse), g), lse

    (_, lse), gradients = jax.value_and_grad(total, (0, 1, 2), has_aux=True)(
        states, candidates, bias
    )
    return lse, gradients


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(SHAPES),
    st.sampled_from([0.0, 1.0, 30.0, 200.0, 1e4]),
    st.integers(0, 2**16),
    st.sampled_from([1, 8_000_000]),
)
def test_agrees_with_float64_values_and_gradients(shape, scale, seed, block_elements):
    arrays = problem(shape, scale, seed)
    g = np.random.default_rng(seed).normal(size=shape[0]).astype(np.float32)
    lse, gradients = run(*arrays, g, KernelOptions(block_elements=block_elements))
    expected = reference.logsumexp(reference.logits(*arrays))
    empty = np.isneginf(expected)
    np.testing.assert_array_equal(np.isneginf(lse), empty)
    error = np.abs(np.asarray(lse)[~empty] - expected[~empty])
    assert (error <= 1e-5 * np.maximum(1, np.abs(expected[~empty]))).all()
    # A float32 logit of 1e4 is itself off by up to 1e-3, and a softmax by as much, relatively;
    # measured 3e-4 there and 5e-6 up to logits of 200.
    tolerance = 1e-5 if scale <= 200 else 1e-3
    for ours, theirs in zip(gradients, reference.logsumexp_gradients(*arrays, g), strict=True):
        assert np.isfinite(ours).all()
        bound = tolerance * max(np.abs(theirs).max(), 1e-6)
        np.testing.assert_allclose(ours, theirs, atol=bound, rtol=0)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_other_dtypes(dtype):
    with jax.enable_x64(dtype == "float64"):
        arrays = problem((33, 65, 9, 1), 20.0, 0, dtype)
        g = np.ones(33, np.float32)
        lse, gradients = run(*map(jnp.asarray, arrays), g)
        assert lse.dtype == ("float64" if dtype == "float64" else "float32")
        assert [x.dtype for x in gradients[:2]] == [dtype, dtype]
        exact = [np.asarray(x, np.float64) for x in arrays[:3]] + list(arrays[3:])
        # Products of bf16 operands are summed in float32, so the logits carry no bf16 rounding.
        tolerance = {"float64": 1e-12, "bfloat16": 1e-5, "float16": 1e-5}[dtype]
        np.testing.assert_allclose(
            lse, reference.logsumexp(reference.logits(*exact)), rtol=tolerance, atol=tolerance
        )
        loose = {"float64": 1e-12, "bfloat16": 2e-2, "float16": 2e-3}[dtype]
        for ours, theirs in zip(gradients, reference.logsumexp_gradients(*exact, g), strict=True):
            ours = np.asarray(ours, np.float64)
            np.testing.assert_allclose(ours, theirs, atol=loose * np.abs(theirs).max(), rtol=0)


def test_no_candidate_left_gives_minus_infinity_and_no_gradient():
    states, candidates = jnp.ones((3, 2)), jnp.ones((4, 2))
    g = jnp.ones(3)
    exclude = jnp.array([[7], [7], [1]], jnp.int32)
    lse, gradients = run(states, candidates, jnp.zeros(4), jnp.full(4, 7, jnp.int32), exclude, g)
    np.testing.assert_array_equal(np.isneginf(lse), [True, True, False])
    np.testing.assert_array_equal(gradients[0][:2], 0)
    assert all(np.isfinite(x).all() for x in gradients)
    none = candidate_logsumexp(states, candidates, valid_S=np.zeros(4, bool))
    assert np.isneginf(none).all()


def test_empty_inputs():
    assert candidate_logsumexp(jnp.zeros((0, 4)), jnp.zeros((5, 4))).shape == (0,)
    assert np.isneginf(candidate_logsumexp(jnp.zeros((2, 4)), jnp.zeros((0, 4)))).all()


def test_parts_combine_by_logaddexp():
    states, candidates, bias, ids, exclude = problem((33, 65, 9, 1), 30.0, 1)
    parts = [
        candidate_logsumexp(
            states,
            candidates[part],
            bias_S=bias[part],
            candidate_ids_S=ids[part],
            exclude_ids_NL=exclude,
        )
        for part in (slice(0, 20), slice(20, None))
    ]
    whole = candidate_logsumexp(
        states, candidates, bias_S=bias, candidate_ids_S=ids, exclude_ids_NL=exclude
    )
    np.testing.assert_allclose(jnp.logaddexp(*parts), whole, rtol=1e-6)


@pytest.mark.parametrize("devices", [1, 8])
def test_candidates_split_over_devices_equal_one_device(devices):
    mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
    states, candidates, bias, ids, exclude = problem((33, 64, 9, 2), 30.0, 1)
    bias[:16] = -np.inf  # two of eight devices hold no candidate
    exclude[0] = -1
    g = np.random.default_rng(0).normal(size=33).astype(np.float32)

    def on_device(states, candidates, bias, ids):
        part = candidate_logsumexp(
            states, candidates, bias_S=bias, candidate_ids_S=ids, exclude_ids_NL=exclude
        )
        return combine_over(part, AXES)

    split = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(COPIED, SPLIT, SPLIT, SPLIT),
        out_specs=COPIED,
        check_vma=False,
    )

    def total(states, candidates, bias):
        return jnp.vdot(split(states, candidates, bias, ids), g)

    value, gradients = jax.jit(jax.value_and_grad(total, (0, 1, 2)))(states, candidates, bias)
    lse, expected = run(states, candidates, bias, ids, exclude, g)
    np.testing.assert_allclose(value, np.vdot(lse, g), rtol=1e-5)
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_large_ids_are_compared_as_integers():
    with jax.enable_x64(True):
        big = 2**62
        lse = candidate_logsumexp(
            jnp.ones((1, 1), jnp.float32),
            jnp.ones((2, 1), jnp.float32),
            candidate_ids_S=np.array([big, big + 1]),
            exclude_ids_NL=np.array([[big]]),
        )
        np.testing.assert_allclose(lse, [1.0])


def test_no_array_of_states_times_candidates():
    n = s = 8192
    budget = 1_000_000

    def total(states, candidates):
        options = KernelOptions(block_elements=budget)
        return candidate_logsumexp(states, candidates, options=options).sum()

    shape = jax.ShapeDtypeStruct((n, 16), jnp.float32)
    compiled = jax.jit(jax.grad(total, (0, 1))).lower(shape, shape).compile()
    # A block of logits and its exponential, and a few copies of the (N, D) arrays.
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * (2.5 * budget + 10 * n * 16)
    assert n * s > 8 * budget


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": KernelOptions("magic")}, "choose from"),
        ({"exclude_ids_NL": np.zeros((2, 1), int)}, "candidate_ids_S"),
        ({"bias_S": np.zeros(4)}, "bias_S has shape"),
        (
            {"exclude_ids_NL": np.zeros((2, 1), int), "candidate_ids_S": np.zeros(3)},
            "must be integers",
        ),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        candidate_logsumexp(jnp.zeros((2, 4)), jnp.zeros((3, 4)), **options)


def test_ids_that_would_lose_their_high_bits_are_refused():
    states, candidates = jnp.zeros((2, 3)), jnp.zeros((4, 3))
    ids = np.arange(4) + 2**40
    if jax.config.jax_enable_x64:
        pytest.skip("runs where jax_enable_x64 is off, as by default")
    with pytest.raises(ValueError, match="candidate_ids_S holds ids beyond int32"):
        candidate_logsumexp(
            states, candidates, candidate_ids_S=ids, exclude_ids_NL=np.zeros((2, 1), np.int64)
        )
