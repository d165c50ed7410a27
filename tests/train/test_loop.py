import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import tiny

from negflax.config import MeshConfig
from negflax.mesh import make_mesh
from negflax.train import goodput as goodput_module
from negflax.train.checkpoint import CheckpointError, abstract_state, read_config, write_config
from negflax.train.goodput import Goodput
from negflax.train.loop import open_checkpoints, train
from negflax.train.restore import CATALOGUE, load_trained
from negflax.train.writers import MetricWriter, read_metrics

SEQUENCES = tiny.make_sequences()
ONE, BATCHES = tiny.make_trainer(tiny.CONFIG, SEQUENCES)  # compiled once for the whole module


@pytest.fixture(scope="module")
def eight():
    """A trainer on eight devices."""
    return tiny.make_trainer(tiny.CONFIG, SEQUENCES, devices=8)[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of 20 steps on one device: (workdir, outcome)."""
    workdir = tmp_path_factory.mktemp("run")
    write_config(workdir, tiny.CONFIG)
    SEQUENCES.catalogue.save(workdir / CATALOGUE)
    # Step 10 is the best ONE.
    outcome = train(
        tiny.CONFIG,
        ONE,
        BATCHES,
        20,
        workdir,
        lambda state: {
            "ndcg_p@10": 1.0 - abs(int(state["step"]) - 10) / 100,
            "undefined": None,
        },
    )
    return workdir, outcome


def assert_equal_states(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


def test_keeps_the_newest_and_the_best(finished):
    workdir, outcome = finished
    checkpoints = open_checkpoints(tiny.CONFIG, workdir, read_only=True)
    assert checkpoints.steps() == [10, 15, 20]
    assert (outcome.step, outcome.best_step) == (20, 10)
    assert [checkpoints.choose(w) for w in ("best", "latest", "15")] == [10, 20, 15]
    with pytest.raises(CheckpointError, match=r"choose latest, best or one of \[10, 15, 20\]"):
        checkpoints.choose("5")
    assert outcome.targets_per_cpu_second > 0
    assert min(outcome.goodput.wall[part] for part in ("compile", "step")) > 0


def test_metrics_are_logged(finished):
    lines = read_metrics(finished[0])
    assert [x["step"] for x in lines if x["kind"] == "train"] == list(range(2, 21, 2))
    assert [x["step"] for x in lines if x["kind"] == "valid"] == [5, 10, 15, 20]
    assert {"loss", "loss_positive", "loss_negative", "push", "w"} <= set(lines[0])
    assert list((finished[0] / "tensorboard").iterdir())


def test_what_is_saved_is_what_was_trained(finished):
    workdir, outcome = finished
    target = abstract_state(jax.eval_shape(ONE.init), ONE.shardings)
    restored = open_checkpoints(tiny.CONFIG, workdir, read_only=True).restore(20, target)
    assert_equal_states(restored, outcome.state)


def test_an_interrupted_run_ends_with_the_same_bits(finished, tmp_path):
    for stop in (7, 20):  # the first call ends after its checkpoint of step 7
        outcome = train(tiny.CONFIG, ONE, BATCHES, stop, tmp_path)
    assert_equal_states(outcome.state, finished[1].state)
    again = train(tiny.CONFIG, ONE, BATCHES, 20, tmp_path)  # nothing left to do
    assert_equal_states(again.state, outcome.state)
    kept = [x["step"] for x in read_metrics(tmp_path)]
    assert kept == sorted(set(kept))


class Recorded:
    """BATCHES, and the numbers of those that were asked for."""

    def __init__(self):
        self.asked = []

    def batch(self, i):
        self.asked.append(i)
        return BATCHES.batch(i)


def test_goes_on_on_eight_devices_with_the_same_data(finished, eight, tmp_path):
    """The same order, and the same parameters but for the order in which devices add up."""
    workdir, outcome = finished
    (tmp_path / "checkpoints").mkdir()
    shutil.copytree(workdir / "checkpoints" / "10", tmp_path / "checkpoints" / "10")
    batches = Recorded()
    moved = train(tiny.CONFIG, eight, batches, 20, tmp_path).state
    assert batches.asked == list(range(10, 20))
    assert moved["tables"]["item"]["rows"].sharding.mesh.size == 8
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        tiny.real_rows(jax.device_get(moved), eight.model),
        tiny.real_rows(jax.device_get(outcome.state), ONE.model),
    )


@pytest.mark.parametrize("devices", [1, 8])
def test_loads_parameters_alone(finished, devices):
    workdir, outcome = finished
    mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
    trained = load_trained(workdir, "latest", mesh)
    assert (trained.step, trained.config) == (20, tiny.CONFIG)
    assert set(trained.state) == {"dense", "tables"}
    assert set(trained.state["tables"]["item"]) == {"rows"}
    assert_equal_states(trained.state["dense"], outcome.state["dense"])
    rows = trained.state["tables"]["item"]["rows"][: SEQUENCES.catalogue.num_rows]
    assert_equal_states(rows, outcome.state["tables"]["item"]["rows"])


def test_patience_counts_after_the_warm_ups(tmp_path):
    config = tiny.changed(train={"patience": 1, "eval_every": 2, "checkpoint_every": 2})
    worse = iter(range(100, 0, -1))
    outcome = train(config, ONE, BATCHES, 20, tmp_path, lambda s: {"ndcg_p@10": next(worse)})
    # Warm-up ends at step 9 (6 positives only + 3 ramp): 10 is the first that counts.
    assert (outcome.step, outcome.best_step) == (12, 10)
    resumed = train(config, ONE, BATCHES, 20, tmp_path, lambda s: {"ndcg_p@10": 0.0})
    assert resumed.step == 12


def test_a_folder_of_another_run_is_refused(finished):
    other = tiny.changed(loss={"omega": 9.0}, model={"hidden": 16})
    with pytest.raises(CheckpointError, match=r"\(model.hidden: 8 → 16, loss.omega: 0.3 → 9.0\)"):
        write_config(finished[0], other)
    assert read_config(finished[0]) == tiny.CONFIG


def test_missing_and_foreign_folders_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="--workdir must name"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text('{"format_version": 99}')
    with pytest.raises(CheckpointError, match="format version 99"):
        read_config(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        open_checkpoints(tiny.CONFIG, tmp_path, read_only=True)


def test_a_damaged_checkpoint_is_named(finished, tmp_path):
    train(tiny.CONFIG, ONE, BATCHES, 5, tmp_path)
    for file in (tmp_path / "checkpoints" / "5" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    target = abstract_state(jax.eval_shape(ONE.init), ONE.shardings)
    with pytest.raises(CheckpointError, match="5 cannot be restored"):
        open_checkpoints(tiny.CONFIG, tmp_path, read_only=True).restore(5, target)


def test_a_line_cut_off_by_a_crash_is_dropped(tmp_path):
    writer = MetricWriter(tmp_path)
    for step in (1, 2, 3):
        writer.write(step, "train", {"loss": 1.0 / step, "none": None})
    writer.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "ki')
    assert [x["step"] for x in read_metrics(tmp_path)] == [1, 2, 3]
    MetricWriter(tmp_path, first_step=2).close()
    assert [x["step"] for x in read_metrics(tmp_path)] == [1, 2]


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on when it is told to: `clock.sleep(seconds)`."""

    class Clock:
        def __init__(self):
            self.now = 0.0

        def sleep(self, seconds):
            self.now += seconds

        def perf_counter(self):
            return self.now

        process_time = perf_counter

    clock = Clock()
    monkeypatch.setattr(goodput_module, "time", clock)
    return clock


def test_goodput_adds_up_nested_phases(clock):
    goodput = Goodput()
    goodput.enter("step")
    with goodput("validate"):
        clock.sleep(2)
    clock.sleep(1)
    goodput.enter("end")
    assert goodput.wall == goodput.cpu == {"start": 0, "step": 1, "validate": 2}


def test_killed_with_sigkill_and_restarted_ends_with_the_same_bits(tmp_path):
    def command(workdir):
        small = {
            "world.num_users": 300,
            "world.num_items": 60,
            "world.num_creators": 10,
            "world.num_clusters": 4,
            "world.steps": 20,
            "train.steps": 60,
            "train.refit": False,
            "train.eval_every": 0,
            "train.checkpoint_every": 5,
            "batch.rows": 4,
        }
        return [
            sys.executable,
            "-m",
            "launch.train",
            "--config=configs/synthetic.py",
            "--notest",
            f"--workdir={workdir}",
            f"--config.data.cache_dir={tmp_path / 'data'}",
            *[f"--config.{key}={value}" for key, value in small.items()],
        ]

    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    environment = os.environ | cache  # the second and third process compile nothing
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole), check=True, capture_output=True, env=environment)
    for _ in range(5):  # where this process has to wait for a core, the run may end before the kill
        shutil.rmtree(killed, ignore_errors=True)
        process = subprocess.Popen(
            command(killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )
        while not (killed / "checkpoints" / "10").is_dir() and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        if process.wait() == -signal.SIGKILL:
            break
    assert process.returncode == -signal.SIGKILL
    again = subprocess.run(
        command(killed), check=True, capture_output=True, text=True, env=environment
    )
    assert "resuming from step" in again.stderr
    a, b = (load_trained(workdir, "60", ONE.mesh) for workdir in (whole, killed))
    assert_equal_states(a.state, b.state)


def test_goodput_counts_as_wait_what_the_devices_waited(clock):
    def slow():
        for i in range(4):
            clock.sleep(1)
            yield i

    goodput, busy = Goodput(), iter([True, False, True, False])
    goodput.enter("step")
    assert list(goodput.fed(slow(), lambda: next(busy))) == [0, 1, 2, 3]
    goodput.enter("end")
    assert goodput.wall["wait"] == goodput.wall["step"] == 2
    assert goodput.wait_share == 0.5
