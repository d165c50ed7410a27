"""Evaluation of a run that was trained by the program: one checkpoint, and all of them."""

import json
import os
import shutil
from pathlib import Path

import pytest
from programs import figures, run

from negflax.config import ConfigError
from negflax.train.checkpoint import CheckpointError

# ml_collections loads config files in a way that Python 3.12 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

CONFIG = Path(__file__).parents[2] / "configs" / "synthetic.py"
SMALL = {
    "world.num_users": 150,
    "world.num_items": 60,
    "world.num_creators": 10,
    "world.num_clusters": 4,
    "world.steps": 30,
    "train.steps": 30,
    "train.eval_every": 10,
    "train.checkpoint_every": 10,
    "train.keep_latest": 3,
    "batch.rows": 8,
    "batch.length": 20,
    "model.hidden": 8,
    "model.embedding": 8,
    "loss.positives_only_steps": 8,
    "loss.ramp_steps": 2,
    "optimizer.warmup_steps": 2,
    "eval.bootstrap": 200,
    "eval.ks": "(5,)",
    "train.metric": "ndcg_p@5",
}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A finished run with checkpoints 10 (of the warm-up), 20 and 30."""
    folder = tmp_path_factory.mktemp("run")
    settings = [f"--config.{key}={value}" for key, value in SMALL.items()]
    run("train", f"--config={CONFIG}", f"--workdir={folder}", "--notest", *settings)
    return folder


def test_follow_evaluates_all_promotes_the_best_and_leaves_the_run_alone(workdir, tmp_path, capsys):
    def tree():
        return {p: os.stat(p).st_mtime_ns for p in [workdir, *workdir.rglob("*")]}

    before, out = tree(), tmp_path / "out"
    arguments = ("--follow", f"--workdir={workdir}", f"--out={out}", f"--json={tmp_path / 'f'}")
    run("evaluate", *arguments)
    assert tree() == before
    found = figures(tmp_path / "f")
    assert (found["steps"], found["metric"]) == ([10, 20, 30], "ndcg_p@5")
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("10 ") and lines[2].endswith("warm-up")
    assert lines[-1] == f"best by ndcg_p@5: step {found['best']}, {out / 'best'}"
    best = json.loads((out / "evaluations" / f"{found['best']}.json").read_text())
    valid = max(
        (json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()),
        key=lambda x: x["ndcg_p@5"] if x["kind"] == "valid" and x["step"] > 10 else -1,
    )
    # The trainer validates on all users here, so it has found the same.
    assert (valid["step"], valid["ndcg_p@5"]) == (best["step"], pytest.approx(best["ndcg_p@5"]))
    assert best["ndcg_p@5_low"] < best["ndcg_p@5"] < best["ndcg_p@5_high"]

    # The winner is scored on the test period, from its own folder.
    shutil.copytree(workdir / "data", out / "best" / "data")
    run("evaluate", f"--workdir={out / 'best'}", f"--json={tmp_path / 'test'}")
    assert figures(tmp_path / "test")["step"] == found["best"]


def test_runs_are_compared_on_the_same_queries(workdir, tmp_path, capsys):
    other = tmp_path / "again"
    shutil.copytree(workdir, other)
    run(
        "evaluate",
        f"--workdir={workdir},{other}",
        f"--json={tmp_path / 'c'}",
        f"--html={tmp_path / 'c.html'}",
    )
    found = figures(tmp_path / "c")
    pair = f"again - {workdir.name}"
    assert found[f"{pair}/hr_p@5"] == found[f"{pair}/hr_p@5_high"] == 0
    assert found[f"{pair}/hr_n@5_p_holm"] == 1
    assert found[f"{pair}+rate/ndcg_p@5_low"] <= found[f"{pair}+rate/ndcg_p@5"]
    assert found["again/hr_p@5"] == found[f"{workdir.name}/hr_p@5"]
    assert "negative_rank_change" in capsys.readouterr().out
    assert "Paired differences" in (tmp_path / "c.html").read_text()


def test_personal_baselines_beside_two_runs(workdir, tmp_path, capsys):
    other = tmp_path / "again"
    shutil.copytree(workdir, other)
    both = f"--workdir={workdir},{other}"
    run("evaluate", "--personal", both, f"--json={tmp_path / 'p'}")
    found = figures(tmp_path / "p")
    assert found["again/hr_p@5"] == found["hr_p@5"]
    for name in ("rate_adjusted", "negative_example"):
        assert found[f"{name}/hr_n@5_low"] <= found[f"{name}/hr_n@5"]
        assert found[f"{name}/beta"] > 0
    assert 0 <= found["counts/hr_p@5"] <= 1  # the run is calibrated, and `model` is without
    out = capsys.readouterr().out
    assert "again against negative_example: " in out and "model against rate_adjusted: " in out
    assert found["verdict"] in out


def test_follow_needs_a_folder_and_the_validation_period(workdir, tmp_path):
    with pytest.raises(ConfigError, match="--follow needs --out"):
        run("evaluate", "--follow", f"--workdir={workdir}")
    with pytest.raises(ConfigError, match="score the test period once"):
        run("evaluate", "--follow", f"--workdir={workdir}", f"--out={tmp_path}", "--split=test")
    with pytest.raises(CheckpointError, match="no run has started"):
        run(
            "evaluate",
            "--follow",
            f"--workdir={tmp_path / 'none'}",
            f"--out={tmp_path / 'out'}",
            "--poll=0.01",
            "--timeout=0.02",
        )
