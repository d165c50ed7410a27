"""The planner beside the step that it plans, for chips that are not there; top-K of 10⁹ rows."""

import re
import time

import compiled
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding

from negflax.config import MeshConfig
from negflax.mesh import COPIED, SPLIT, make_mesh
from negflax.serve.topk import top_k_function
from negflax.train import plan as planning

pytestmark = pytest.mark.accelerators
MACHINE = planning.Machine(1e12, 1e11, 1e10, 1e-5)


@pytest.mark.parametrize("chip", compiled.CHIPS)
def test_the_plan_is_within_a_tenth_of_the_compiled_step(chip):
    sections = {"batch": {"rows": 64, "length": 50}, "loss": {"num_candidates": 2048}}
    items = 10_000_000
    step = compiled.step(chip, items, **sections)
    config = compiled.config_of(**sections)
    mesh = make_mesh(config.mesh, compiled.devices(chip, 8))
    plan = planning.make_plan(config, compiled.sizes_of(items), mesh, MACHINE)
    memory = step.memory
    peak = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    assert plan.peak == pytest.approx(peak, rel=0.1)
    assert plan.checkpoint_bytes == pytest.approx(memory.alias_size_in_bytes, rel=0.02)


@pytest.mark.parametrize("width", [64, 65])
def test_lists_of_a_billion_rows_compile_without_a_copy(width, record_property):
    rows, queries = 10**9, 64
    mesh = make_mesh(MeshConfig(), compiled.devices("tpu_v5e", 64))
    copied, split = NamedSharding(mesh, COPIED), NamedSharding(mesh, SPLIT)
    start = time.perf_counter()
    lowered = top_k_function(mesh, rows, 100).lower(
        jax.ShapeDtypeStruct((queries, width), jnp.float32, sharding=copied),
        jax.ShapeDtypeStruct((rows, width), jnp.float32, sharding=split),
        jax.ShapeDtypeStruct((queries, 8), jnp.int32, sharding=copied),
    )
    program = lowered.compile()
    seconds = time.perf_counter() - start
    record_property("seconds", seconds)
    text, temporary = program.as_text(), program.memory_analysis().temp_size_in_bytes
    print(
        f"top-K of width {width}: compiled in {seconds:.0f} s, temporary {temporary / 1e6:.0f} MB"
    )
    # What is left are the maxima of the blocks, 4 bytes for every 16 rows of a query, twice.
    assert temporary < 1.05 * 2 * 4 * queries * rows / 64 / 16
    shard = rf"f32\[{rows // 64},{width}\]"
    assert re.search(rf"= {shard}\S* parameter", text)
    assert not re.search(rf"= {shard}\S* (copy|transpose|gather)", text)
