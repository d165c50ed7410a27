"""Faults of a run, and what happens: rows of the table in docs/operations.md."""

import contextlib
import errno
import json
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from negflax import files, preemption
from negflax.train import loop, saving
from negflax.train.checkpoint import CheckpointError, NonFiniteError
from negflax.train.failed_batch import load_batch
from negflax.train.goodput_log import account
from negflax.train.loop import open_checkpoints, train
from negflax.train.progress import Progress
from negflax.train.restore import save_catalogue
from negflax.train.run_config import read_config, write_config
from negflax.train.workdir_lock import locked
from negflax.train.writers import read_metrics

SEQUENCES = tiny.make_sequences()
TRAINER, BATCHES = tiny.make_trainer(tiny.CONFIG, SEQUENCES)  # compiled once for the whole module


def quality(state):
    return {"ndcg_p@10": 1.0 - abs(int(state["step"]) - 10) / 100}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(folder, outcome) of 20 steps."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, train(tiny.CONFIG, TRAINER, BATCHES, 20, folder, quality)


def steps(folder):
    return open_checkpoints(tiny.CONFIG, folder, read_only=True).steps()


def lines(folder):
    return [{k: v for k, v in line.items() if k != "time"} for line in read_metrics(folder)]


def assert_the_same_run(folder, outcome, undisturbed):
    """Parameters bit for bit, the best step, and every line of metrics."""
    whole, expected = undisturbed
    jax.tree.map(np.testing.assert_array_equal, outcome.state, expected.state)
    assert outcome.best_step == expected.best_step

    def plain(line):  # what a restart counts anew
        return {k: v for k, v in line.items() if k != "skipped"}

    assert [plain(x) for x in lines(folder)] == [plain(x) for x in lines(whole)]


class Spoiled:
    """Batches of which some have an infinite weight."""

    def __init__(self, bad):
        self._bad = bad

    def batch(self, i):
        batch = BATCHES.batch(i)
        if i in self._bad:
            r = batch.positive_weight_BTL.copy()
            r[tuple(np.argwhere(batch.label_ids_BTL > 0)[0])] = np.inf
            batch = batch._replace(positive_weight_BTL=r)
        return batch


# Leaving when asked


@pytest.mark.parametrize("at", [3, 10])  # between two saves; where one was just made
def test_asked_to_leave_it_saves_this_step_and_goes_on_there(
    tmp_path, monkeypatch, undisturbed, at
):
    monkeypatch.setattr(preemption, "requested", lambda step: step == at)
    with pytest.raises(preemption.Preempted, match=f"saved step {at}"):
        train(tiny.CONFIG, TRAINER, BATCHES, 20, tmp_path, quality)
    assert max(steps(tmp_path)) == at
    monkeypatch.undo()
    outcome = train(tiny.CONFIG, TRAINER, BATCHES, 20, tmp_path, quality)
    assert_the_same_run(tmp_path, outcome, undisturbed)


def test_an_interrupted_validation_is_repeated_after_the_restart(tmp_path, undisturbed):
    def validate(state):
        if int(state["step"]) == 10:
            raise preemption.Preempted("at step 10")
        return quality(state)

    with pytest.raises(preemption.Preempted, match="saved step 10"):
        train(tiny.CONFIG, TRAINER, BATCHES, 20, tmp_path, validate)
    outcome = train(tiny.CONFIG, TRAINER, BATCHES, 20, tmp_path, quality)
    assert outcome.best_step == 10
    assert_the_same_run(tmp_path, outcome, undisturbed)
    assert open_checkpoints(tiny.CONFIG, tmp_path, read_only=True).best()[0] == 10


def test_saves_by_minutes_independently_of_the_wall_clock(tmp_path, monkeypatch):
    seconds = iter(range(0, 10**6, 20))  # each look at the clock takes 20 s
    monkeypatch.setattr(saving, "clock", lambda: next(seconds))
    monkeypatch.setattr(time, "time", lambda: 0.0)  # the wall clock stands still
    config = tiny.changed(
        train={"checkpoint_every": 0, "checkpoint_minutes": 1.0, "keep_latest": 99}
    )
    train(config, TRAINER, BATCHES, 12, tmp_path)
    assert steps(tmp_path) == [3, 6, 9, 12]


# Numbers that are not finite


def test_a_bad_batch_costs_its_step_alone(tmp_path, caplog):
    outcome = train(tiny.CONFIG, TRAINER, Spoiled({6, 7}), 20, tmp_path)
    assert outcome.step == 20
    assert "step 7 is skipped" in caplog.text and "step 8 is skipped" in caplog.text
    assert [x["skipped"] for x in lines(tmp_path) if x["kind"] == "train"] == [0] * 3 + [2] * 7


def test_after_so_many_bad_steps_in_a_row_it_stops_with_the_batch(tmp_path):
    config = tiny.changed(train={"max_skipped": 3})
    bad = Spoiled({1, 2, *range(6, 20)})
    with pytest.raises(NonFiniteError, match=r"step 9: the last 3 steps .* parameters are finite"):
        train(config, TRAINER, bad, 20, tmp_path)
    step, batch = load_batch(tmp_path / "skipped" / "batch-9.npz")
    assert step == 9 and max(steps(tmp_path)) >= 9
    jax.tree.map(np.testing.assert_array_equal, batch, bad.batch(8))
    with pytest.raises(ValueError, match="is not a batch"):
        load_batch(tmp_path / "done.json")


@pytest.mark.parametrize("validate", [None, quality])
def test_parameters_that_are_not_finite_are_never_saved(tmp_path, monkeypatch, validate):
    real = TRAINER.step

    def step(state, batch):
        state, metrics = real(state, batch)
        if int(state["step"]) == 12:
            state["dense"] = jax.tree.map(lambda x: x * jnp.nan, state["dense"])
        return state, metrics

    monkeypatch.setattr(TRAINER, "step", step)
    with pytest.raises(NonFiniteError, match="dense/.* have values that are not finite"):
        train(tiny.CONFIG, TRAINER, BATCHES, 20, tmp_path, validate)
    assert max(steps(tmp_path)) == 10
    monkeypatch.undo()
    assert train(tiny.CONFIG, TRAINER, BATCHES, 20, tmp_path, validate).step == 20


def test_a_restart_rolls_back_past_checkpoints_that_are_not_finite(tmp_path, undisturbed):
    folder = shutil.copytree(undisturbed[0], tmp_path / "run")
    shutil.rmtree(folder / "checkpoints" / "20")
    free = open_checkpoints(tiny.CONFIG, folder)  # without an identity nothing is checked
    bad = undisturbed[1].state | {"step": jnp.int32(20)}
    free.save(20, bad | {"dense": jax.tree.map(lambda x: x * jnp.nan, bad["dense"])}, None)
    free.close()
    outcome = train(tiny.CONFIG, TRAINER, BATCHES, 20, folder, quality)
    jax.tree.map(np.testing.assert_array_equal, outcome.state, undisturbed[1].state)
    assert [x.name for x in (folder / "unreadable").iterdir()] == ["20"]


def test_divergence_is_reported_once(caplog):
    progress = Progress(0, 100, 1, items=1000, writer=None, log=None)
    names = ("loss", "loss_positive", "loss_negative", "push")
    for step, loss in enumerate((6.9, 30.0, 1.4e6, 1.4e6, 7.0, 1e9), start=1):
        values = dict.fromkeys(names, jnp.float32(loss))
        progress.read(step, values | {"labels": jnp.int32(5), "skipped": jnp.int32(0)})
    assert caplog.text.count("training has diverged") == 1
    assert "step 3: " in caplog.text


# Checkpoints that are not what they seem


def test_an_existing_folder_that_prevents_a_save_is_named(tmp_path):
    train(tiny.CONFIG, TRAINER, BATCHES, 5, tmp_path)
    shutil.copytree(tmp_path / "checkpoints" / "5", tmp_path / "checkpoints" / "90")
    checkpoints = open_checkpoints(tiny.CONFIG, tmp_path, TRAINER.model)
    state = TRAINER.init() | {"step": jnp.int32(7)}
    with pytest.raises(CheckpointError, match="step 7 was not saved: .*checkpoints/90 exists"):
        checkpoints.save(7, state, None)
    checkpoints.close()


def test_a_copy_under_a_later_number_is_moved_away(tmp_path, undisturbed, caplog):
    train(tiny.CONFIG, TRAINER, BATCHES, 5, tmp_path, quality)
    shutil.copytree(tmp_path / "checkpoints" / "5", tmp_path / "checkpoints" / "90")
    outcome = train(tiny.CONFIG, TRAINER, BATCHES, 20, tmp_path, quality)
    assert "90 cannot be restored: it is a copy of step 5" in caplog.text
    assert (tmp_path / "unreadable" / "90").is_dir()
    jax.tree.map(np.testing.assert_array_equal, outcome.state, undisturbed[1].state)
    assert outcome.best_step == 10


@pytest.mark.parametrize("content", ['{"ndcg_p@10": 0.9', "[]", "\0\0"])
def test_a_checkpoint_with_damaged_metrics_is_not_the_best(tmp_path, undisturbed, content, caplog):
    folder = shutil.copytree(undisturbed[0], tmp_path / "run")
    (folder / "checkpoints" / "10" / "metrics" / "metrics").write_text(content)
    for read_only in (True, False):
        checkpoints = open_checkpoints(tiny.CONFIG, folder, TRAINER.model, read_only=read_only)
        assert checkpoints.best()[0] == 15
        checkpoints.close()
    assert "metrics/metrics is damaged" in caplog.text
    outcome = train(tiny.CONFIG, TRAINER, BATCHES, 20, folder, quality)
    jax.tree.map(np.testing.assert_array_equal, outcome.state, undisturbed[1].state)


@pytest.mark.parametrize("name", ["fingerprints", "_CHECKPOINT_METADATA"])
def test_a_missing_file_is_reported(tmp_path, undisturbed, name, caplog):
    folder = shutil.copytree(undisturbed[0], tmp_path / "run")
    gone = folder / "checkpoints" / "20" / name
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    outcome = train(tiny.CONFIG, TRAINER, BATCHES, 20, folder, quality)
    assert f"checkpoints/20 has no {name}" in caplog.text
    jax.tree.map(np.testing.assert_array_equal, outcome.state, undisturbed[1].state)


# Disks


@pytest.mark.parametrize("where", ["at once", "in the background"])
def test_a_full_disk_stops_a_checkpoint_in_words(tmp_path, monkeypatch, undisturbed, where):
    full = OSError(errno.ENOSPC, "No space left on device")
    real = loop.Checkpoints._open

    def opened(self):
        manager = real(self)
        save, wait, calls = manager.save, manager.wait_until_finished, []

        def failing_save(step, **more):
            if step == 10 and where == "at once":
                wait()
                raise full
            calls.append(step)
            return save(step, **more)

        def failing_wait():
            wait()
            if 10 in calls and where != "at once":
                shutil.rmtree(tmp_path / "checkpoints" / "10", ignore_errors=True)
                raise full

        manager.save, manager.wait_until_finished = failing_save, failing_wait
        return manager

    monkeypatch.setattr(loop.Checkpoints, "_open", opened)
    with pytest.raises(CheckpointError, match="step 10 was not written .*No space.* start again"):
        train(tiny.CONFIG, TRAINER, BATCHES, 12, tmp_path, quality)
    monkeypatch.undo()
    outcome = train(tiny.CONFIG, TRAINER, BATCHES, 20, tmp_path, quality)
    jax.tree.map(np.testing.assert_array_equal, outcome.state, undisturbed[1].state)


@pytest.mark.parametrize("name", ["config.json", "catalogue.npz", "done.json", "batch-8.npz"])
def test_a_full_disk_stops_other_files_in_words(tmp_path, monkeypatch, name):
    real = files.sync

    def full(path):
        if name in str(path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path)

    def run(batches):
        with locked(tmp_path):
            write_config(tmp_path, config)
            save_catalogue(tmp_path, SEQUENCES.catalogue)
            return train(config, TRAINER, batches, 10, tmp_path)

    config = tiny.changed(train={"max_skipped": 3})
    batches = Spoiled({5, 6, 7}) if name.startswith("batch") else BATCHES
    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(CheckpointError, match=f"{name}.* cannot be written: No space.*start again"):
        run(batches)
    assert not list(tmp_path.rglob(f"*{name}*"))  # nothing half is left
    monkeypatch.undo()
    assert run(BATCHES).step == 10


def test_a_folder_that_vanishes_is_named(tmp_path):
    folder = tmp_path / "run"

    def validate(state):
        folder.rename(tmp_path / "away")
        return quality(state)

    with pytest.raises(CheckpointError, match="run has vanished"), locked(folder):
        train(tiny.CONFIG, TRAINER, BATCHES, 12, folder, validate)


# Config


def test_free_settings_change_others_are_named(tmp_path):
    write_config(tmp_path, tiny.CONFIG)
    free = tiny.changed(
        train={"log_every": 7, "keep_latest": 5, "checkpoint_minutes": 2.0}, mesh={"table": 2}
    )
    write_config(tmp_path, free)
    assert read_config(tmp_path) == free
    bound = tiny.changed(train={"steps": 30}, optimizer={"learning_rate": 0.5})
    with pytest.raises(CheckpointError, match="train.steps: 20 → 30.*--accept_config_change"):
        write_config(tmp_path, bound)
    write_config(tmp_path, bound, accept_change=True)
    assert read_config(tmp_path) == bound


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"config": []}', "", "\0", '{"config": {"x": 1}}']
)
def test_a_damaged_config_is_named(tmp_path, content):
    write_config(tmp_path, tiny.CONFIG)
    path = tmp_path / "config.json"
    version = json.loads(path.read_text())["format_version"]
    with contextlib.suppress(ValueError, TypeError):
        content = json.dumps(json.loads(content) | {"format_version": version})
    path.write_text(content)
    with pytest.raises(CheckpointError, match="config.json (is damaged|cannot be read)"):
        read_config(tmp_path)


# Time


def test_goodput_is_counted_over_restarts(tmp_path, monkeypatch):
    def killed(state):
        if int(state["step"]) == 15:
            raise SystemExit
        return quality(state)

    with pytest.raises(SystemExit):
        train(tiny.CONFIG, TRAINER, BATCHES, 20, tmp_path, killed)
    with open(tmp_path / "goodput.jsonl", "ab") as file:
        file.write(b'{"start": "cut o\n\xff\0\n[]\n')
    train(tiny.CONFIG, TRAINER, BATCHES, 20, tmp_path, quality)
    found = account(tmp_path)
    assert found.starts == 2 and found.seconds["lost"] > 0
    assert {"restore", "compile", "step", "validate", "checkpoint"} <= set(found.seconds)
    assert 0 < found.goodput < 1
