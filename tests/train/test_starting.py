"""Where a run begins, and that it goes on as the same run on other devices."""

import shutil

import jax
import numpy as np
import pytest
import tiny

from negflax.train.checkpoint import CheckpointError, abstract_state, write_config
from negflax.train.loop import open_checkpoints, train
from negflax.train.restore import save_catalogue
from negflax.train.starting import INIT_REPORT, first_state

SEQUENCES = tiny.make_sequences()
TRAINER, BATCHES = tiny.make_trainer(tiny.CONFIG, SEQUENCES)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder of a run of 10 steps whose best is 5, its last state)."""
    folder = tmp_path_factory.mktemp("run")
    write_config(folder, tiny.CONFIG)
    save_catalogue(folder, SEQUENCES.catalogue)
    config = tiny.changed(loss={"positives_only_steps": 0, "ramp_steps": 0})  # no warm-up
    worse = iter((0.9, 0.1))
    state = train(config, TRAINER, BATCHES, 10, folder, lambda s: {"ndcg_p@10": next(worse)}).state
    return folder, jax.device_get(state)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


def begin(workdir, resume_from="", init_from=""):
    return first_state(TRAINER, SEQUENCES.catalogue, workdir, str(resume_from), str(init_from))


def test_a_run_starts_from_its_own_newest_checkpoint(run, tmp_path):
    folder = shutil.copytree(run[0], tmp_path / "own")
    outcome = train(tiny.CONFIG, TRAINER, BATCHES, 10, folder, init=pytest.fail)
    assert_equal(outcome.state, run[1])


def test_without_one_it_starts_from_the_run_to_resume_from(run, tmp_path):
    folder, last = run
    before = sorted(folder.rglob("*"))
    assert_equal(begin(tmp_path, resume_from=folder, init_from=folder), last)
    assert sorted(folder.rglob("*")) == before
    outcome = train(
        tiny.CONFIG, TRAINER, BATCHES, 11, tmp_path, init=lambda: begin(tmp_path, folder)
    )
    assert outcome.step == 11  # it has gone on from step 10


def test_what_cannot_be_resumed_from_is_named(run, tmp_path):
    other = shutil.copytree(run[0], tmp_path / "other")
    (other / "config.json").unlink()
    write_config(other, tiny.changed(train={"seed": 5}))
    with pytest.raises(CheckpointError, match=r"another config \(train.seed: 5 → 0\).*--init_from"):
        begin(tmp_path, resume_from=other)
    with pytest.raises(CheckpointError, match="nothing/config.json does not exist"):
        begin(tmp_path, resume_from=tmp_path / "nothing")


def test_without_either_it_starts_from_the_parameters_of_another_run(run, tmp_path):
    folder, last = run
    state = begin(tmp_path, init_from=folder)
    assert int(state["step"]) == 0 and (tmp_path / INIT_REPORT).exists()
    target = {"dense": abstract_state(jax.eval_shape(TRAINER.init), TRAINER.shardings)["dense"]}
    best = open_checkpoints(tiny.CONFIG, folder, read_only=True).restore(5, target)
    assert_equal(state["dense"], best["dense"])


def test_otherwise_it_starts_from_scratch(tmp_path):
    assert_equal(begin(tmp_path), TRAINER.init())


def test_from_eight_devices_to_one_to_four_every_bit_stays(run, tmp_path):
    folder = shutil.copytree(run[0], tmp_path / "run")
    for step, devices in ((11, 8), (12, 1), (13, 4)):
        trainer, _ = tiny.make_trainer(tiny.CONFIG, SEQUENCES, devices)
        checkpoints = open_checkpoints(tiny.CONFIG, folder, trainer.model)
        target = abstract_state(jax.eval_shape(trainer.init), trainer.shardings)
        _, state = checkpoints.restore_first("latest", target)
        assert state["tables"]["item"]["rows"].sharding.mesh.size == devices
        found = tiny.real_rows(jax.device_get(state), trainer.model)
        expected = tiny.real_rows(run[1], trainer.model)
        assert_equal(found | {"step": 0}, expected | {"step": 0})
        checkpoints.save(step, state | {"step": jax.numpy.int32(step)}, None)
        checkpoints.close()
