"""A step whose loss or gradient is not finite changes nothing but its number."""

import jax
import numpy as np
import pytest
import tiny

from negflax.mesh import split

SEQUENCES = tiny.make_sequences()


def spoiled(batch, value):
    """The batch with one weight of its last row replaced."""
    r = batch.positive_weight_BTL.copy()
    labelled = np.argwhere(batch.label_ids_BTL > 0)[-1]
    r[tuple(labelled)] = value
    return batch._replace(positive_weight_BTL=r)


@pytest.mark.parametrize(
    ("value", "devices", "changes"),
    [
        (np.inf, 8, {}),
        pytest.param(  # the gradient's norm overflows
            1e30, 1, {"optimizer": {"tables": "dense_adam"}}, marks=pytest.mark.system
        ),
        (np.inf, 1, {"optimizer": {"table_dtype": "bfloat16", "table_weight_decay": 0.1}}),
        pytest.param(np.inf, 1, {"loss": {"candidates": "full"}}, marks=pytest.mark.system),
    ],
)
def test_a_step_that_is_not_finite_changes_nothing(value, devices, changes):
    trainer, batches = tiny.make_trainer(tiny.changed(**changes), SEQUENCES, devices)
    before, _ = tiny.run_steps(trainer, batches, 2)
    state = jax.device_put(before, trainer.shardings)
    bad = spoiled(batches.batch(2), np.float32(value))
    state, metrics = trainer.step(state, jax.device_put(bad, split(trainer.mesh)))
    assert int(metrics["skipped"]) == 1
    assert not (np.isfinite(metrics["loss"]) and np.isfinite(metrics["gradient_norm"]))
    after = jax.device_get(state)
    assert after["step"] == 3
    jax.tree.map(np.testing.assert_array_equal, after | {"step": before["step"]}, before)
    state, metrics = trainer.step(state, jax.device_put(batches.batch(3), split(trainer.mesh)))
    assert int(metrics["skipped"]) == 0 and np.isfinite(metrics["loss"])
    moved = jax.device_get(state)
    assert not np.array_equal(moved["tables"]["item"]["rows"], after["tables"]["item"]["rows"])
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(moved["dense"]))
