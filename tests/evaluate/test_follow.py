"""Following a run whose trainer writes, deletes and breaks checkpoints meanwhile."""

import dataclasses
import json
import os
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negflax.config import Config, LossConfig, OptimizerConfig
from negflax.data import Catalogue
from negflax.evaluate import EvaluationError
from negflax.evaluate.follow.follow import Follower, wait_for_run
from negflax.train.checkpoint import CheckpointError, Checkpoints, write_config
from negflax.train.loop import DONE
from negflax.train.restore import CATALOGUE

METRIC = "ndcg_p@10"
CONFIG = Config(
    loss=LossConfig(positives_only_steps=2, ramp_steps=0), optimizer=OptimizerConfig(warmup_steps=0)
)


class Run:
    """A trainer's folder; the state of a checkpoint is the value of its metric."""

    def __init__(self, folder, keep=10):
        self.folder = folder
        write_config(folder, CONFIG)
        zeros = np.zeros(3, np.int32)
        Catalogue(np.arange(2), zeros, zeros[:, None], zeros).save(folder / CATALOGUE)
        self.checkpoints = Checkpoints(folder, METRIC, keep)

    def save(self, values, done=True):
        for step, value in values.items():
            self.checkpoints.save(step, {"value": jnp.float32(value)}, None)
        self.checkpoints.close()
        if done:
            (self.folder / DONE).write_text("{}")

    def path(self, step):
        return self.folder / "checkpoints" / str(step)


class Evaluate:
    """Reads the snapshot as a program would; keeps what it was asked."""

    def __init__(self, before=lambda step: None):
        self.asked, self.before = [], before

    def __call__(self, snapshot, step):
        self.asked.append(step)
        self.before(step)
        checkpoints = Checkpoints(snapshot, METRIC, read_only=True)
        place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        target = {"value": jax.ShapeDtypeStruct((), jnp.float32, sharding=place)}
        value = float(checkpoints.restore(step, target)["value"])
        if np.isnan(value):
            raise EvaluationError("the score is not finite")
        return {METRIC: round(value, 4), METRIC + "_low": 0.0, METRIC + "_high": 1.0}


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")


def follow(run, evaluate=None, metric=METRIC, **options):
    out = run.folder.parent / "out"
    follower = Follower(run.folder, out, metric)
    follower.run(evaluate or Evaluate(), poll=0.02, **options)
    return follower, out


def tree(folder):
    """Every path with what a write would change."""
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_size)
        for path in [folder, *folder.rglob("*")]
    }


def test_every_checkpoint_is_evaluated_and_the_best_promoted(run, caplog):
    run.save({2: 0.9, 4: 0.3, 6: 0.5, 8: 0.5, 10: 0.1})
    before = tree(run.folder)
    follower, out = follow(run)
    assert tree(run.folder) == before
    assert list(follower.evaluations()) == [2, 4, 6, 8, 10]
    # Step 2 is of the warm-up; of equals the earliest.
    expected = {"step": 6, "metric": METRIC, "value": 0.5, "low": 0.0, "high": 1.0}
    assert json.loads((out / "best.json").read_text()) == expected
    assert Checkpoints(out / "best", METRIC, read_only=True).steps() == [6]
    assert [path.name for path in (out / "snapshots").iterdir()] == ["6"]
    assert {path.name for path in out.iterdir()} == {
        "best",
        "best.json",
        "config.json",
        "evaluations",
        "snapshots",
    }


def test_the_best_checkpoint_survives_deletion_of_the_run(run):
    run.save({4: 0.3})
    _, out = follow(run)
    shutil.rmtree(run.folder)
    assert Evaluate()(out / "best", 4)[METRIC] == 0.3


def test_lower_is_better_for_metrics_of_negatives(run):
    run.save({4: 0.3, 6: 0.5})

    def evaluate(snapshot, step):
        return {"hr_n@10": step / 10}

    assert follow(run, evaluate, "hr_n@10")[0].best() == 4


def test_evaluated_checkpoints_are_skipped_after_a_restart(run):
    run.save({4: 0.3, 6: 0.2})
    follow(run)
    again = Evaluate()
    follower, _ = follow(run, again)
    assert again.asked == []
    assert (list(follower.evaluations()), follower.best()) == ([4, 6], 4)


def test_killed_between_any_two_steps_it_goes_on(run, monkeypatch):
    """What waits is evaluated after the restart, though the trainer has deleted it by then."""
    run.save({4: 0.3, 6: 0.5})

    def killed(step):
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(run, Evaluate(killed))
    shutil.rmtree(run.folder / "checkpoints")
    (run.folder.parent / "out/snapshots/.8/checkpoints").mkdir(parents=True)
    follower, out = follow(run)
    assert (follower.best(), list(follower.evaluations())) == (6, [4, 6])
    assert [path.name for path in (out / "snapshots").iterdir()] == ["6"]


def test_a_live_trainer_that_keeps_one_checkpoint(tmp_path):
    """Each is evaluated, though the trainer is faster than the evaluation."""
    run = Run(tmp_path / "run", keep=1)
    values = {step: step / 100 for step in range(4, 16, 2)}
    evaluate = Evaluate()
    seen = threading.Event()

    def slow(step):
        if step == 4:  # until all others have been saved, and all but the last deleted
            trainer.join()
            seen.wait(0.5)

    evaluate.before = slow

    def train():
        for step, value in values.items():
            run.checkpoints.save(step, {"value": jnp.float32(value)}, None)
            run.checkpoints._manager.wait_until_finished()
            out = tmp_path / "out/snapshots" / str(step)
            while not out.exists():  # a look takes place between two checkpoints
                seen.wait(0.005)
        run.save({})

    trainer = threading.Thread(target=train)
    trainer.start()
    follower, _ = follow(run, evaluate, timeout=600)
    trainer.join()
    assert run.checkpoints.steps() == [14]
    assert evaluate.asked == list(values)
    assert follower.best() == 14


def test_a_checkpoint_deleted_during_its_evaluation(run):
    run.save({4: 0.3, 6: 0.5})
    follower, _ = follow(run, Evaluate(lambda step: shutil.rmtree(run.path(step))))
    assert list(follower.evaluations()) == [4, 6]


def test_a_checkpoint_deleted_while_it_is_copied(run, monkeypatch, caplog):
    run.save({4: 0.3, 6: 0.5})
    link, links = os.link, []

    def deleting(source, target):
        links.append(source)
        if "/4/" in str(source) and run.path(4).exists() and len(links) > 4:
            shutil.rmtree(run.path(4))
        link(source, target)

    monkeypatch.setattr(os, "link", deleting)
    follower, out = follow(run)
    assert list(follower.evaluations()) == [6]
    assert not list((out / "snapshots").glob(".*"))


def test_incomplete_checkpoints_are_evaluated_once_they_are_complete(run, tmp_path):
    """As a copy from another machine makes them: file by file, each perhaps in part."""
    run.save({4: 0.3, 6: 0.5}, done=False)
    files = [p for p in run.path(6).rglob("*") if p.is_file()]
    shutil.move(run.path(6), tmp_path / "whole")
    run.path(6).mkdir()

    def copy_some(step):
        """At each evaluation a third more is there; once all is, the run has ended."""
        for source in list(tmp_path.joinpath("whole").rglob("*"))[: 8 * len(evaluate.asked)]:
            target = run.path(6) / source.relative_to(tmp_path / "whole")
            if source.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
        if sum(p.is_file() for p in run.path(6).rglob("*")) == len(files):
            (run.folder / DONE).write_text("{}")

    evaluate = Evaluate(copy_some)
    follower, _ = follow(run, evaluate, timeout=600)
    assert follower.evaluations()[6][METRIC] == 0.5
    assert evaluate.asked[0] == 4 and evaluate.asked.count(6) >= 2


def test_a_checkpoint_that_stays_incomplete_is_left_out(run):
    run.save({4: 0.3, 6: 0.5, 8: 0.4})
    shutil.rmtree(run.path(6) / "state")
    evaluate = Evaluate()
    follower, out = follow(run, evaluate)
    assert evaluate.asked == [4, 6, 8]
    assert (list(follower.evaluations()), follower.best()) == ([4, 8], 8)


def test_failed_evaluations_are_recorded_and_never_the_best(run):
    run.save({4: np.nan, 6: 0.5})
    follower, _ = follow(run)
    assert follower.evaluations()[4] == {"step": 4, "error": "the score is not finite"}
    assert follower.best() == 6
    again = Evaluate()
    follow(run, again)
    assert again.asked == []


def test_an_undefined_metric_is_never_the_best(run):
    run.save({4: 0.3})
    follower, out = follow(run, lambda snapshot, step: {METRIC: None})
    assert follower.best() is None and not (out / "best").exists()


def test_files_are_copied_where_hard_links_fail(run, monkeypatch):
    run.save({4: 0.3})

    def refused(source, target):
        raise PermissionError

    monkeypatch.setattr(os, "link", refused)
    assert follow(run)[0].best() == 4


def test_a_metric_that_is_not_measured(run):
    run.save({4: 0.3})
    with pytest.raises(EvaluationError, match=f"'ndgc' is not measured; choose from {METRIC}$"):
        follow(run, metric="ndgc")


def test_gives_up_on_a_dead_trainer(run):
    run.save({4: 0.3}, done=False)
    with pytest.raises(CheckpointError, match=r"no new checkpoint after 0.05 s .*no done.json"):
        follow(run, timeout=0.05)


def test_waits_for_a_run_to_begin(tmp_path):
    threading.Timer(0.1, lambda: Run(tmp_path / "run")).start()
    wait_for_run(tmp_path / "run", poll=0.01, timeout=600)
    with pytest.raises(CheckpointError, match="no run has started"):
        wait_for_run(tmp_path / "none", poll=0.01, timeout=0.02)


def test_folders_that_cannot_be(run, tmp_path):
    with pytest.raises(CheckpointError, match="inside the folder of the run"):
        Follower(run.folder, run.folder / "evaluation", METRIC)
    write_config(tmp_path / "other", dataclasses.replace(CONFIG, name="another"))
    with pytest.raises(CheckpointError, match="holds a run with another config"):
        Follower(run.folder, tmp_path / "other", METRIC)
