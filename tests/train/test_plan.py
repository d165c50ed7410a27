import math
import re

import jax
import numpy as np
import pytest
import tiny

from negflax.config import ConfigError
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.train import plan as planning
from negflax.train import traffic
from negflax.train.checkpoint import abstract_state
from negflax.train.step import Trainer

MACHINE = planning.Machine(1e12, 1e11, 1e10, 1e-5)
SIZES = planning.Sizes(600_001, tiny.make_sequences().catalogue.feature_sizes)
CONFIG = tiny.changed(
    batch={"rows": 64, "length": 50},
    model={"embedding": 16, "hidden": 32},
    loss={"candidates": "unigram", "num_candidates": 512},
)
PAYLOAD = {"f32": 4, "s32": 4, "u32": 4, "pred": 1}


def sent(text, devices):
    """Kind of collective → bytes that a device sends, from the compiled program's text."""
    factor = {"all-reduce": 2, "all-gather": 1, "all-to-all": 1, "reduce-scatter": devices}
    total = dict.fromkeys(factor, 0.0)
    for shapes, kind in re.findall(
        r" = (.*?) (all-reduce|all-gather|all-to-all|reduce-scatter)\(", text
    ):
        for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
            size = math.prod(map(int, filter(None, shape.split(",")))) * PAYLOAD[dtype]
            total[kind] += factor[kind] * (devices - 1) / devices * size
    return total


@pytest.mark.parametrize(
    ("devices", "lookup", "candidates"),
    [(1, "auto", "unigram"), (8, "psum", "full"), (8, "all_to_all", "uniform")],
)
def test_within_a_tenth_of_the_compiled_step(devices, lookup, candidates):
    config = tiny.changed(CONFIG, mesh={"lookup": lookup}, loss={"candidates": candidates})
    mesh = make_mesh(config.mesh, jax.devices()[:devices])
    sizes = SIZES._replace(num_rows=40_001) if candidates == "full" else SIZES
    plan = planning.make_plan(config, sizes, mesh, MACHINE)

    trainer = Trainer(config, Recommender(config.model, sizes), np.ones(sizes.num_rows), 1, mesh)
    state = abstract_state(jax.eval_shape(trainer.init), trainer.shardings)
    compiled = trainer.lower(state, planning.abstract_batch(config, mesh)).compile()
    found, memory = compiled.memory_analysis(), plan.memory
    temporary = memory["candidates"] + memory["looked-up rows"] + memory["activations"]
    # The compiler drops batch columns that the model does not read.
    assert plan.peak - temporary == pytest.approx(found.argument_size_in_bytes, rel=0.02)
    # Planned with a smaller catalogue: no temporary array is of the table's size.
    assert temporary == pytest.approx(found.temp_size_in_bytes, rel=0.1)
    assert temporary > 0.1 * plan.peak  # or the tenth would say nothing about it
    peak = found.argument_size_in_bytes + found.temp_size_in_bytes
    assert plan.peak == pytest.approx(peak, rel=0.1)
    # All of the state is donated.
    assert found.alias_size_in_bytes == pytest.approx(plan.checkpoint_bytes, rel=0.01)

    # No table is gathered: the collectives are those of the plan.
    text = sent(compiled.as_text(), devices)
    planned = dict.fromkeys(text, 0.0)
    for (_, what), size in plan.collectives.items():
        planned[what.split(" ")[0]] += size
    if lookup == "all_to_all":  # the program holds the way back twice: its second rounds
        ids, gradients = (
            sum(v for (_, what), v in plan.collectives.items() if what == f"all-to-all {of}")
            for of in ("ids", "gradients")
        )
        planned["all-to-all"] += ids / 2 + gradients
    for kind, size in planned.items():
        assert text[kind] == pytest.approx(size, rel=0.1, abs=2_000), kind


def test_the_batch_is_one_that_training_makes():
    sequences = tiny.make_sequences()
    trainer, batches = tiny.make_trainer(tiny.CONFIG, sequences)
    planned = planning.abstract_batch(tiny.CONFIG, trainer.mesh)
    made = jax.tree.map(lambda x: (x.shape, x.dtype), batches.batch(0))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), planned) == made


def test_what_does_not_fit_and_the_key_to_change():
    memory = {"rows": 100, "slots": 2, "activations": 50, "batch": 1}
    plan = planning.Plan(memory, 102, {}, {})
    assert plan.peak == 153
    assert plan.too_large(153) == {}
    assert list(plan.too_large(60)) == ["rows"]
    assert "more --devices" in plan.too_large(60)["rows"]
    assert list(plan.too_large(10)) == ["rows", "activations"]
    assert set(memory) < set(planning.KEYS)


def test_a_batch_that_does_not_divide_is_named():
    config = tiny.changed(batch={"rows": 12})
    with pytest.raises(ConfigError, match="batch.rows = 12 does not divide among 8"):
        planning.make_plan(config, SIZES, make_mesh(config.mesh), MACHINE)


def test_creators_and_clusters_of_composed_vectors_are_planned():
    config = tiny.changed(
        CONFIG,
        model={"composed": ("creator", "cluster"), "features": ()},
        loss={"candidates": "uniform"},
    )
    mesh = make_mesh(config.mesh)
    model = Recommender(config.model, SIZES._replace(clusters=3))
    batch = planning.abstract_batch(config, mesh)
    found = traffic.lookups(config, model, batch, mesh, "all_to_all")
    assert set(found) == {"item", "item_creator", "item_cluster"}
    asked = {name: (one.ids, one.shared) for name, one in found.items()}
    assert asked["item"] == asked["item_creator"] == (2 * 64 * 50 // 8, 512)
    assert asked["item_cluster"] == (3 * 2 * 64 * 50 // 8, 3 * 512)
