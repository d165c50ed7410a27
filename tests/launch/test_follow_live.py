"""A trainer and a follower as processes, the follower killed twice and unable to write there."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from negflax.train.loop import DONE

ROOT = Path(__file__).parents[2]
SMALL = {
    "world.num_users": 300,
    "world.num_items": 60,
    "world.num_creators": 10,
    "world.num_clusters": 4,
    "world.steps": 20,
    "train.steps": 120,
    "train.eval_every": 20,
    "train.checkpoint_every": 10,
    "train.keep_latest": 1,
    "batch.rows": 4,
    "loss.positives_only_steps": 20,
    "loss.ramp_steps": 5,
}


@pytest.mark.system
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv"
)
def test_follows_a_live_trainer(tmp_path):
    workdir, out = tmp_path / "run", tmp_path / "out"
    train = [
        sys.executable,
        "-m",
        "launch.train",
        "--config=configs/synthetic.py",
        "--notest",
        f"--workdir={workdir}",
        *(f"--config.{k}={v}" for k, v in SMALL.items()),
    ]
    # Root without the right to override file modes: what the trainer makes under this umask can
    # be read but not be written, nor can anything be added to its folders.
    follow = [
        "setpriv",
        "--bounding-set=-dac_override",
        sys.executable,
        "-m",
        "launch.evaluate",
        "--follow",
        f"--workdir={workdir}",
        f"--out={out}",
        "--poll=0.05",
        "--timeout=600",
        f"--json={tmp_path / 'follow.json'}",
    ]

    def start(command, **options):
        return subprocess.Popen(
            command,
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **options,
        )

    def evaluated():
        return {p: p.stat().st_mtime_ns for p in (out / "evaluations").glob("[0-9]*.json")}

    trainer, done = start(train, umask=0o222), {}
    for wanted in (1, 3):
        follower = start(follow)
        while len(evaluated()) < wanted and follower.poll() is None:
            time.sleep(0.01)
        follower.kill()
        follower.communicate()
        assert done.items() <= evaluated().items()  # nothing is done twice
        done = evaluated()
    follower = start(follow)
    told, _ = follower.communicate(timeout=900)
    trained, _ = trainer.communicate(timeout=900)
    assert trainer.returncode == 0, trained
    assert follower.returncode == 0, told
    assert (workdir / DONE).exists()
    assert done.items() <= evaluated().items()

    write = [*follow[:2], sys.executable, "-c", f"open({str(workdir / 'checkpoints/x')!r}, 'w')"]
    refused = subprocess.run(write, capture_output=True, text=True)
    assert "PermissionError" in refused.stderr  # the modes are what they are meant to be
    found = json.loads((tmp_path / "follow.json").read_text())
    values = {
        step: json.loads((out / "evaluations" / f"{step}.json").read_text())["ndcg_p@10"]
        for step in found["steps"]
    }
    assert found["steps"][-1] == 120 and len(found["steps"]) >= 5
    able = {step: value for step, value in values.items() if step > 50}
    assert found["best"] == max(able, key=lambda step: (able[step], -step))
    served = subprocess.run(
        [sys.executable, "-m", "launch.evaluate", f"--workdir={out / 'best'}", "--split=valid"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "page:" in served.stdout
