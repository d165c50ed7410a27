import jax
import numpy as np
import pytest
import tiny

from negflax import tables
from negflax.config import OptimizerConfig
from negflax.mesh import split
from negflax.train import optimizer
from negflax.train.checkpoint import write_config
from negflax.train.loop import train
from negflax.train.restore import CATALOGUE, load_trained

SEQUENCES = tiny.make_sequences()


def test_clip_bounds_the_norm_and_then_each_element():
    gradient = np.float32([3, -4, 0.1])
    norm = np.linalg.norm(gradient)
    for bound in (0.3, 0.0):
        config = OptimizerConfig(clip_value=bound, clip_norm=0.6)
        clipped = optimizer.clip(config, gradient, optimizer.clip_scale(config, norm))
        expected = np.clip(gradient * 0.6 / norm, -(bound or 1), bound or 1)
        np.testing.assert_allclose(clipped, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_schedule_warms_up_and_decays(name):
    config = OptimizerConfig(schedule=name, warmup_steps=4, final_fraction=0.25)
    rate = np.array([optimizer.schedule(config, 20)(i) for i in range(21)])
    np.testing.assert_allclose(rate[:4], [0.25, 0.5, 0.75, 1.0])
    assert np.all(np.diff(rate[4:]) <= 0)
    np.testing.assert_allclose(rate[20], 1.0 if name == "constant" else 0.25, rtol=1e-6)


@pytest.mark.parametrize("devices", [1, 8])
def test_all_of_the_state_is_donated(devices):
    config = tiny.changed(optimizer={"tables": "lazy_adam", "table_dtype": "bfloat16"})
    trainer, batches = tiny.make_trainer(config, tiny.make_sequences(items=4_000), devices)
    batch = jax.device_put(batches.batch(0), split(trainer.mesh))
    state = jax.eval_shape(trainer.init)
    on_mesh = jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        state,
        trainer.shardings,
    )
    memory = (
        jax.jit(trainer.step, donate_argnums=0).lower(on_mesh, batch).compile().memory_analysis()
    )
    per_device = jax.tree.map(
        lambda x: np.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize, on_mesh
    )
    assert memory.alias_size_in_bytes == sum(jax.tree.leaves(per_device))


@pytest.mark.system
@pytest.mark.parametrize(
    "fields",
    [
        {"tables": "dense_adam", "table_learning_rate": 2e-3, "table_weight_decay": 0.01},
        {"tables": "rowwise_adam", "table_learning_rate": 5e-3, "table_dtype": "bfloat16"},
    ],
)
def test_a_run_learns_and_is_read_back(fields, tmp_path):
    config = tiny.changed(optimizer=fields, model={"dropout_input": 0.0})
    trainer, batches = tiny.make_trainer(config, SEQUENCES, steps=40)
    _, first = tiny.run_steps(trainer, batches, 5)
    write_config(tmp_path, config)
    SEQUENCES.catalogue.save(tmp_path / CATALOGUE)
    state = train(config, trainer, batches, 40, tmp_path).state
    _, last = tiny.run_steps(trainer, batches, 5, jax.tree.map(np.asarray, state))
    first, last = (np.mean([m["loss_positive"] for m in part]) for part in (first, last))
    assert last < first - 0.1
    trained = load_trained(tmp_path, "latest", trainer.mesh)
    for name, table in trained.state["tables"].items():
        np.testing.assert_array_equal(
            table["rows"], tables.unpack(state["tables"][name]["rows"], "float32")
        )
