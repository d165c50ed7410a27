import jax
import jax.numpy as jnp
import loss_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental.pallas import mosaic_gpu as plgpu
from jax.extend.core import jaxprs_in_params

from benchmarks import gpu_check
from negflax.loss.kernels import flash_logsumexp_gpu, mosaic_gpu
from negflax.loss.kernels.flash_logsumexp_gpu import LOG2E, Tiles

CASES = [  # N, S, D, L, largest logit, type
    (1, 1, 1, 0, 1.0, "bfloat16"),
    (5, 7, 3, 2, 5.0, "float16"),
    (130, 701, 64, 1, 5.0, "bfloat16"),
    (257, 500, 70, 2, 200.0, "bfloat16"),
    (64, 900, 256, 1, 1e4, "float16"),
]


def emulated(body, *, out_type, grid, **options):
    """What the kernel returns, in jax.numpy, for padded operands; stands in for `plgpu.kernel`."""

    def run(rows, moved):
        columns, weight = moved
        parts, blocks = grid
        tiles, steps = body.args
        assert rows.vectors.shape[0] == blocks * tiles.groups * tiles.rows
        assert columns.vectors.shape[0] == parts * steps * tiles.columns
        assert rows.vectors.shape[1] % 64 == 0
        z = jnp.dot(rows.vectors, columns.vectors.T, preferred_element_type=jnp.float32)
        z = z + columns.bias + (0 if rows.bias is None else rows.bias[:, None])
        for row_key in rows.keys:
            for key in columns.keys:
                z = jnp.where(row_key[:, None] == key, -jnp.inf, z)
        z = jnp.moveaxis(z.reshape(len(z), parts, -1), 1, 0) * LOG2E
        if weight is None:
            maximum = jnp.maximum(jnp.max(z, axis=2), flash_logsumexp_gpu.FLOOR)
            p = jnp.exp2(z - maximum[:, :, None])
        else:
            maximum, p = None, jnp.exp2(z) * weight.reshape(parts, 1, -1)
        values = columns.vectors.reshape(parts, -1, columns.vectors.shape[1])
        sums = jnp.einsum(
            "krc,kcd->krd", p.astype(values.dtype), values, preferred_element_type=jnp.float32
        )
        outputs = None if out_type[0] is None else sums, jnp.sum(p, axis=2), maximum
        jax.tree.map(lambda x, y: np.testing.assert_equal(x.shape, y.shape), outputs, out_type)
        return outputs

    return run


@pytest.fixture
def no_kernel(monkeypatch):
    monkeypatch.setattr(flash_logsumexp_gpu.plgpu, "kernel", emulated)


def agree(arrays, logsumexp, tolerance):
    *inputs, g = arrays
    lse, gradients = gradients_of(logsumexp)(*arrays)
    exact = [np.asarray(x, np.float64) for x in inputs[:3]] + list(inputs[3:])
    expected = reference.logsumexp(reference.logits(*exact))
    np.testing.assert_allclose(lse, expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(gradients, reference.logsumexp_gradients(*exact, g), strict=True):
        ours = np.asarray(ours, np.float64)
        np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max(), rtol=0)


def gradients_of(logsumexp):
    def run(states, candidates, bias, ids, exclude, g):
        lse, vjp = jax.vjp(lambda *x: logsumexp(*x, ids, exclude), states, candidates, bias)
        return lse, vjp(g)

    return jax.jit(run)


def shapes(n, s, d, labels=1, dtype=jnp.bfloat16):
    shape = jax.ShapeDtypeStruct
    return (
        shape((n, d), dtype),
        shape((s, d), dtype),
        shape((s,), jnp.float32),
        shape((s,), jnp.int32),
        shape((n, labels), jnp.int32),
        shape((n,), jnp.float32),
    )


@pytest.mark.parametrize("case", CASES)
def test_passes_padding_and_parts_agree_with_float64(case, no_kernel):
    agree(gpu_check.problem(*case), mosaic_gpu.logsumexp, 2e-2)


def test_value_without_gradient_is_the_same(no_kernel):
    *arrays, g = gpu_check.problem(*CASES[2])
    lse, _ = gradients_of(mosaic_gpu.logsumexp)(*arrays, g)
    np.testing.assert_allclose(mosaic_gpu.logsumexp(*arrays), lse, rtol=1e-6)


def test_no_candidate_left_gives_minus_infinity_and_no_gradient(no_kernel):
    states, candidates = jnp.ones((3, 4), jnp.bfloat16), jnp.ones((5, 4), jnp.bfloat16)
    ids, exclude = jnp.full(5, 7, jnp.int32), jnp.array([[7], [7], [1]], jnp.int32)
    arrays = states, candidates, jnp.zeros(5), ids, exclude, jnp.ones(3)
    lse, gradients = gradients_of(mosaic_gpu.logsumexp)(*arrays)
    np.testing.assert_array_equal(np.isneginf(lse), [True, True, False])
    assert (np.asarray(gradients[0][:2], np.float32) == 0).all()
    assert all(np.isfinite(np.asarray(x, np.float32)).all() for x in gradients)
    _, gradients = gradients_of(mosaic_gpu.logsumexp)(
        *arrays[:2], jnp.full(5, -jnp.inf), *arrays[3:]
    )
    assert all((np.asarray(x, np.float32) == 0).all() for x in gradients)


def test_tiny_cotangents_survive_float16(no_kernel):
    *arrays, g = gpu_check.problem(64, 500, 8, 1, 5.0, "float16")
    tiny, large = (gradients_of(mosaic_gpu.logsumexp)(*arrays, g * x)[1] for x in (1e-20, 1.0))
    np.testing.assert_allclose(tiny[2] * 1e20, large[2], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("d", "dtype", "id_type", "said"),
    [
        (9, "float32", "int32", "config.model.precision = 'bfloat16'"),
        (300, "bfloat16", "int32", "width 300"),
        (9, "bfloat16", "int64", "ids of 64 bits"),
    ],
)
def test_operands_that_it_does_not_take_are_an_error(d, dtype, id_type, said):
    with jax.enable_x64(id_type == "int64"), pytest.raises(ValueError, match=said):
        vectors = jnp.zeros((7, d), dtype)
        ids = jnp.arange(7, dtype=id_type)
        mosaic_gpu.logsumexp(vectors, vectors, jnp.zeros(7), ids, ids[:, None])


def test_an_empty_set_of_states():
    none, some = jnp.zeros((0, 9), jnp.bfloat16), jnp.zeros((7, 9), jnp.bfloat16)
    ids = jnp.arange(7, dtype=jnp.int32)
    assert mosaic_gpu.logsumexp(none, some, jnp.zeros(7), ids, ids[:0, None]).shape == (0,)


def test_float32_operands_are_rounded_and_their_gradients_are_not(no_kernel):
    states, candidates, bias, ids, exclude, g = gpu_check.problem(*CASES[1])
    wide = states.astype(jnp.float32), candidates.astype(jnp.float32), bias, ids, exclude

    def half(*arrays):
        return mosaic_gpu.logsumexp(*arrays, str(states.dtype))

    lse, (d_states, d_candidates, _) = gradients_of(half)(*wide, g)
    same, expected = gradients_of(mosaic_gpu.logsumexp)(states, candidates, bias, ids, exclude, g)
    np.testing.assert_array_equal(lse, same)
    assert d_states.dtype == d_candidates.dtype == jnp.float32
    np.testing.assert_array_equal(d_states.astype(states.dtype), expected[0])


@pytest.mark.parametrize(
    ("width", "tiles"),
    [(64, None), (128, None), (256, None), (64, Tiles(128, 64, 2)), (64, Tiles(64, 64, 2, 3))],
)
def test_lowers_for_cuda_without_a_gpu(width, tiles):
    def forward(states, candidates, bias, ids, exclude, g):
        return mosaic_gpu.logsumexp(states, candidates, bias, ids, exclude, None, tiles)

    def both(*arrays):
        return jax.vjp(lambda *x: forward(*x, *arrays[3:]), *arrays[:3])[1](arrays[5])

    for function, kernels in ((forward, 1), (both, 2)):
        traced = jax.jit(function).trace(*shapes(1000, 3001, width))
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
        assert text.count("@mosaic_gpu") == kernels


def test_no_array_of_states_times_candidates():
    n = s = 4096

    def sizes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (x.aval.size for x in equation.outvars if hasattr(x.aval, "size"))
            for inner in jaxprs_in_params(equation.params):
                yield from sizes(inner)

    jaxpr = jax.make_jaxpr(gradients_of(mosaic_gpu.logsumexp))(*shapes(n, s, 64))
    found = list(sizes(jaxpr.jaxpr))
    assert len(found) > 100  # the kernels' insides are among them
    assert max(found) <= n * s / 8


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_parts_cover_the_columns_and_stay_few(blocks_r, blocks_c):
    parts, steps = flash_logsumexp_gpu._split(blocks_r, blocks_c)
    assert parts >= 1 and (parts - 1) * steps < blocks_c <= parts * steps
    assert parts == 1 or parts * blocks_r <= 4 * flash_logsumexp_gpu.PROCESSORS


@pytest.mark.skipif(
    not hasattr(plgpu, "InterpretGPUParams"),
    reason="the GPU interpreter needs jax 0.11, Python 3.12: docs/accelerators.md",
)
@pytest.mark.parametrize("case", CASES[1:4])
def test_the_kernel_in_the_interpreter(case):
    with gpu_check.interpreted():
        assert gpu_check.check(case)["good"]


@pytest.mark.skipif(not mosaic_gpu.available(), reason="needs a Hopper GPU: docs/accelerators.md")
@pytest.mark.parametrize("case", gpu_check.CORRECT + gpu_check.CORRECT_GPU[:2])
def test_the_kernel_on_the_gpu(case):
    assert gpu_check.check(case)["good"]
