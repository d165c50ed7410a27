"""The loss and its kernels, compiled for chips that are not there."""

import os
import re
import shutil
import subprocess
import sys

import compiled
import cycles
import jax
import jax.numpy as jnp
import kernel_cycles
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from negflax.config import MeshConfig
from negflax.loss import OBJECTIVES, CandidateSet, KernelOptions, LabelBatch, objective_sum
from negflax.loss.kernels import mosaic_gpu, mosaic_tpu, xla
from negflax.mesh import make_mesh

pytestmark = pytest.mark.accelerators
N, S, D = 409_600 // 8, 8_192, 64  # of one device


def compile_for(chip, function, *shapes):
    """The program of one device; shapes are (shape, dtype)."""
    mesh, everywhere = make_mesh(MeshConfig(), compiled.devices(chip, 1)), PartitionSpec()
    mapped = jax.shard_map(
        function, mesh=mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False
    )
    place = NamedSharding(mesh, everywhere)
    arguments = (jax.ShapeDtypeStruct(*shape, sharding=place) for shape in shapes)
    return jax.jit(mapped).lower(*arguments).compile()


def operands(n, s, d, dtype, labels=2):
    return (
        ((n, d), dtype),
        ((s, d), dtype),
        ((s,), jnp.float32),
        ((s,), jnp.int32),
        ((n, labels), jnp.int32),
    )


def both(logsumexp):
    """Value and gradients of an implementation."""

    def run(states, candidates, bias, ids, exclude):
        def total(states, candidates, bias):
            return jnp.sum(logsumexp(states, candidates, bias, ids, exclude))

        return jax.value_and_grad(total, (0, 1, 2))(states, candidates, bias)

    return run


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("width", [64, 128, 256])
def test_the_tpu_kernel_compiles(width, dtype):
    program = compile_for(
        "tpu_v5e", both(mosaic_tpu.logsumexp), *operands(8192, 8192, width, dtype)
    )
    assert program.as_text().count('custom_call_target="tpu_custom_call"') == 2
    assert program.memory_analysis().temp_size_in_bytes < 64 * 2**20


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("width", [64, 128, 256])
def test_the_gpu_kernel_compiles_without_spills(width, dtype, monkeypatch, capfd):
    monkeypatch.setenv("MOSAIC_GPU_DUMP_PTXAS", "1")
    program = compile_for("h200", both(mosaic_gpu.logsumexp), *operands(8192, 8192, width, dtype))
    said = "".join(capfd.readouterr())
    assert program.as_text().count("mosaic_gpu") >= 2
    spilled = re.findall(r"(\d+) bytes spill", said)
    assert spilled, "the assembler said nothing"
    assert set(spilled) == {"0"}


@pytest.mark.parametrize(("chip", "kernel"), [("tpu_v5e", "mosaic_tpu"), ("h200", "mosaic_gpu")])
def test_a_step_with_the_kernel_named_holds_its_call(chip, kernel):
    step = compiled.step(
        chip,
        1_000_000,
        model={"precision": "bfloat16"},
        loss={"implementation": kernel, "num_candidates": 1024},
    )
    assert ("tpu_custom_call" if chip.startswith("tpu") else kernel) in step.text


def loss(options):
    """Value and gradients of the objective, as in training."""

    def run(states, candidates, bias, ids, label_ids):
        def total(states, candidates, bias):
            logits = jnp.einsum("nd,ld->nl", states, candidates[:2])
            labels = LabelBatch(label_ids, logits, logits * 0 + 1, logits * 0 + 2)
            items = CandidateSet(candidates, bias, ids)
            return objective_sum(OBJECTIVES["ntr"], states, labels, items, options=options)[0]

        return jax.value_and_grad(total, (0, 1, 2))(states, candidates, bias)

    return run


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_loss_takes_three_times_its_products_at_most(precision, record_property):
    options = KernelOptions(precision=precision)
    block = 896  # states that the budget of 8 M logits allows, in whole lanes

    def products(states, candidates, *_):
        kind = options.product_dtype or states.dtype
        narrow = candidates.astype(kind)

        def one_block(total, states_b):
            logits = xla.products(states_b.astype(kind), narrow, jnp.float32).astype(kind)
            mean = xla.contract(narrow.T, logits, (1, 0), jnp.float32)
            return total + xla.contract(logits, states_b, (1, 0), jnp.float32), mean

        blocks = states[: N // block * block].reshape(-1, block, D)
        return lax.scan(one_block, jnp.zeros((S, D)), blocks)

    found = {
        name: cycles.estimate(
            compile_for("tpu_v5e", function, *operands(N, S, D, jnp.float32)).as_text(),
            -(-N // block),
        )
        for name, function in (("loss", loss(options)), ("products", products))
    }
    print(f"{precision}: {found} cycles, {found['loss'] / found['products']:.2f} times")
    record_property("cycles", found)
    assert found["loss"] <= 3 * found["products"]


def test_the_kernel_costs_no_more_in_one_pass_than_in_two(tmp_path, record_property):
    """By the instructions of its kernels, which the compiler writes down for another process."""
    compiled.devices("tpu_v5e", 1)
    found = {}
    for form in ("one_pass", "two_passes"):
        folder = tmp_path / form
        dump = f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"
        done = subprocess.run(
            [sys.executable, kernel_cycles.__file__, form, "bfloat16", folder],
            env=os.environ | {"LIBTPU_INIT_ARGS": dump, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        found[form] = int(done.stdout.split()[-1])
        shutil.rmtree(folder)  # 150 MB
    print(f"mosaic_tpu, bfloat16: {found} cycles")
    record_property("cycles", found)
    assert found["one_pass"] <= 1.1 * found["two_passes"]
