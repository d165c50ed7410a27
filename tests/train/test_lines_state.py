"""Training on tables in lines, as on TPUs: the same run, and the same checkpoints."""

import contextlib
from unittest import mock

import jax
import numpy as np
import pytest
import tiny

from negflax.tables import plain
from negflax.tables.lines import Lines
from negflax.train import state as states
from negflax.train.checkpoint import abstract_state
from negflax.train.loop import open_checkpoints

SEQUENCES = tiny.make_sequences()
CONFIG = tiny.changed(optimizer={"tables": "lazy_adam", "table_dtype": "bfloat16"})


def run(lines, steps=3):
    kept = mock.patch.object(states, "kept_in_lines", lambda *_: True)
    with kept if lines else contextlib.nullcontext():
        trainer, batches = tiny.make_trainer(CONFIG, SEQUENCES, 2)
        state = trainer.init()
    for i in range(steps):
        state, _ = trainer.step(state, batches.batch(i))
    return trainer, state


def assert_same(ours, theirs, model):
    ours, theirs = (tiny.real_rows(jax.device_get(plain(x)), model) for x in (ours, theirs))
    for part in ("dense", "tables", "step"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(
                a, b, rtol=1e-4, atol=2 if a.dtype == np.uint16 else 1e-6
            ),
            ours[part],
            theirs[part],
        )


@pytest.fixture(scope="module")
def both():
    return run(True), run(False)


def test_the_run_is_the_same(both):
    (trainer, ours), (_, theirs) = both
    assert isinstance(ours["tables"]["item"]["rows"], Lines)
    assert isinstance(ours["tables"]["item"]["slots"]["m"], Lines)
    assert_same(ours, theirs, trainer.model)


def test_checkpoints_hold_rows_and_restore_into_either(both, tmp_path):
    (trainer, ours), (other, theirs) = both
    checkpoints = open_checkpoints(CONFIG, tmp_path, trainer.model)
    checkpoints.save(3, ours, None)
    checkpoints.wait()
    targets = {
        one: abstract_state(jax.eval_shape(lambda state=state: state), one.shardings)
        for one, state in ((trainer, ours), (other, theirs))
    }
    for target in targets.values():
        found = checkpoints.restore(3, target)
        assert jax.tree.structure(found) == jax.tree.structure(target)
        equal = np.testing.assert_array_equal
        a, b = (tiny.real_rows(jax.device_get(plain(x)), trainer.model) for x in (found, ours))
        jax.tree.map(equal, a["tables"], b["tables"])
    checkpoints.close()
