"""A population is its members, trained alone: same losses, same folders; it stops and goes on."""

import dataclasses
import json
import os
import re

import jax
import numpy as np
import pytest

from negflax import mesh as meshes
from negflax import preemption
from negflax.config import Config, ConfigError, MeshConfig
from negflax.data import StreamBatches, open_sequences
from negflax.fitting import train_run
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.sweep import at_most, grid, parse_grid, runs_together, train_population
from negflax.train import plan as planning
from negflax.train import workdir_lock
from negflax.train.loop import DONE, open_checkpoints
from negflax.train.members import MemberTrainer, group_mesh, member_mesh
from negflax.train.restore import load_trained
from negflax.train.run_config import CheckpointError
from negflax.train.step import Trainer
from negflax.train.weights import loss_weights
from negflax.train.writers import read_metrics

SMALL = {
    "world": {"num_users": 80, "num_items": 100, "steps": 30},
    "batch": {"rows": 8, "length": 10},
    "model": {"hidden": 8, "embedding": 8},
    "loss": {"positives_only_steps": 2, "ramp_steps": 1, "omega": 30.0},
    "optimizer": {"warmup_steps": 1},
    "train": {"steps": 8, "eval_every": 4, "checkpoint_every": 4, "log_every": 1},
    "eval": {"history": 10, "bootstrap": 20},
}


def config(**sections):
    parts = {
        name: dataclasses.replace(getattr(Config(), name), **values | sections.get(name, {}))
        for name, values in SMALL.items()
    }
    return Config(**parts)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return open_sequences(config(), tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    one = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *_: one)


def trainer_of(one, data, mesh, steps=50):
    model = Recommender(one.model, data.catalogue)
    return Trainer(one, model, data.catalogue.train_count_V, steps, mesh)


OMEGAS = (0.5, 30.0, 300.0, 0.0)


def losses(one, data, mesh, count):
    """Of the population, and of each member alone, over `count` steps."""
    runs = [
        dataclasses.replace(one, loss=dataclasses.replace(one.loss, omega=omega, r=0.5 + i))
        for i, omega in enumerate(OMEGAS)
    ]
    batches = StreamBatches(data, one.batch, one.labels, one.train.splits)
    wide = member_mesh(mesh, len(runs))
    trainer = trainer_of(one, data, group_mesh(wide))
    weights = [loss_weights(x.loss, "float32", trainer.model.num_rows) for x in runs]
    population = MemberTrainer(trainer, wide, weights)
    state = population.stack([trainer.init() for _ in runs])
    together = []
    for i in range(count):
        state, metrics = population.step(
            state, jax.device_put(batches.batch(i), meshes.split(wide))
        )
        together.append(np.asarray(metrics["loss"]))
    alone, single = [], trainer_of(one, data, make_mesh(MeshConfig(), jax.devices()[:1]))
    for own_weights in weights:
        single.loss_weights, own, found = own_weights, single.init(), []
        for i in range(count):
            own, metrics = single.step(own, batches.batch(i))
            found.append(float(metrics["loss"]))
        alone.append(found)
    return np.array(together), np.array(alone).T, population, state


@pytest.mark.parametrize(
    "objective, candidates",
    [("ntr", "full"), pytest.param("smoothed", "uniform", marks=pytest.mark.system)],
)
def test_members_of_a_population_equal_members_trained_alone(objective, candidates, data):
    one = config(loss={"objective": objective, "candidates": candidates, "num_candidates": 32})
    together, alone, population, state = losses(one, data, make_mesh(MeshConfig()), 50)
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    assert len({round(float(x), 4) for x in together[-1]}) == len(OMEGAS)
    own = population.member(state, 1)
    assert jax.tree.structure(own) == jax.tree.structure(jax.eval_shape(population.trainer.init))


def test_groups_of_devices_do_not_communicate(data, monkeypatch):
    monkeypatch.undo()
    mesh = make_mesh(MeshConfig(), jax.devices()[:8])
    together, alone, population, state = losses(config(), data, mesh, 3)
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    groups = population.mesh.devices.reshape(4, 2)
    allowed = [{device.id for device in group} for group in groups]
    batch = jax.tree.map(
        jax.numpy.asarray, StreamBatches(data, config().batch, config().labels, ("train",)).batch(0)
    )
    text = population.lower(state, batch).compile().as_text()
    found = re.findall(r"replica_groups=(\{\{.*?\}\}|\[[^\s]*)", text)
    assert found, "two devices of a group do exchange gradients"
    for groups in map(replica_groups, found):
        assert all(any(set(group) <= own for own in allowed) for group in groups), groups


def replica_groups(text):
    """Of HLO: {{0,1},{2,3}} or [4,2]<=[8], with an optional transposition."""
    if text.startswith("{"):
        return [[int(x) for x in group.split(",")] for group in re.findall(r"\{([\d,]+)\}", text)]
    shape, dims, order = re.fullmatch(
        r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?,?", text
    ).groups()
    ids = np.arange(np.prod(dims := [int(x) for x in dims.split(",")])).reshape(dims)
    ids = ids.transpose([int(x) for x in order.split(",")]) if order else ids
    return ids.reshape([int(x) for x in shape.split(",")]).tolist()


@pytest.mark.system
def test_members_are_runs(data, tmp_path):
    runs = grid(config(), parse_grid(["loss.omega=1,100"]))
    train_population(runs, tmp_path, data)
    for name, one in runs.items():
        train_run(one, tmp_path / "alone" / name, data)
        for kind in ("train", "valid"):
            ours, theirs = (
                [x for x in read_metrics(folder / name) if x["kind"] == kind]
                for folder in (tmp_path, tmp_path / "alone")
            )
            key = "loss" if kind == "train" else one.train.metric
            assert [x["step"] for x in ours] == [x["step"] for x in theirs]
            np.testing.assert_allclose(
                [x[key] for x in ours], [x[key] for x in theirs], rtol=1e-4, atol=1e-6
            )
        assert (tmp_path / name / DONE).read_text() == (
            tmp_path / "alone" / name / DONE
        ).read_text()
        assert load_trained(tmp_path / name, "best", make_mesh(MeshConfig())).config == one
    before = (tmp_path / name / "metrics.jsonl").stat().st_mtime_ns
    train_population(runs, tmp_path, data)  # nothing is left to do
    assert before == (tmp_path / name / "metrics.jsonl").stat().st_mtime_ns


def test_a_population_that_was_stopped_goes_on(data, tmp_path, monkeypatch):
    runs = grid(config(), parse_grid(["loss.omega=1,100"]))
    train_population(runs, tmp_path / "whole", data)
    monkeypatch.setattr(preemption, "requested", lambda step: step == 6)
    with pytest.raises(preemption.Preempted, match="step 6"):
        train_population(runs, tmp_path / "parts", data)
    monkeypatch.undo()
    one = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *_: one)
    name = "omega=100"
    # A crash between two members' saves: the other one has a step that this one lacks.
    opened = open_checkpoints(runs[name], tmp_path / "parts" / name, read_only=False)
    opened.set_aside_later(4)
    opened.close()
    train_population(runs, tmp_path / "parts", data)
    for name in runs:
        whole, parts = (read_metrics(tmp_path / x / name)[-1] for x in ("whole", "parts"))
        assert whole == parts


def test_members_that_another_process_trains_are_left_to_it(data, tmp_path):
    runs = grid(config(), parse_grid(["loss.omega=1,100"]))
    folder, parent = tmp_path / list(runs)[1], os.getppid()
    folder.mkdir()
    owner = {"token": "other", "user": "ann", "host": "here", "pid": parent}
    owner |= {"machine": workdir_lock._machine(), "started": workdir_lock._started(parent)}
    (folder / workdir_lock.LOCK).write_text(json.dumps(owner))
    with pytest.raises(CheckpointError, match=rf"process {parent}\) is training there"):
        train_population(runs, tmp_path, data)
    assert os.listdir(tmp_path) == [folder.name]


def test_a_member_whose_steps_are_all_skipped_trains_no_further(
    data, tmp_path, monkeypatch, caplog
):
    one = config(train={"steps": 8, "log_every": 1, "checkpoint_every": 8, "max_skipped": 3})
    runs = grid(one, parse_grid(["loss.omega=1,100"]))
    made, failing = MemberTrainer.__init__, np.array([0, 1], np.int32)

    def init(trainer, *arguments):
        made(trainer, *arguments)
        step = trainer.step

        def skips(state, batch):
            state, metrics = step(state, batch)
            return state, metrics | {"skipped": failing[: trainer.size]}

        trainer.step = skips

    monkeypatch.setattr(MemberTrainer, "__init__", init)
    train_population(runs, tmp_path, data)
    good, bad = ([x for x in read_metrics(tmp_path / n) if x["kind"] == "train"] for n in runs)
    assert [x["step"] for x in bad] == [1, 2, 3] and bad[-1]["skipped"] == 3
    assert good[-1]["step"] == 8 and good[-1]["skipped"] == 0
    assert "omega=100 is not trained further: its last 3 steps were skipped" in caplog.text


@pytest.mark.system
def test_patience_leaves_members_behind(data, tmp_path):
    one = config(
        train={"steps": 40, "eval_every": 2, "patience": 2, "checkpoint_every": 2},
        loss={"objective": "negative_weight", "weight_policy": "constant"},
        optimizer={"table_learning_rate": 0.5},
    )
    runs = grid(one, parse_grid(["loss.w=0,1,100,1000"]))
    train_population(runs, tmp_path, data)
    ends = [open_checkpoints(c, tmp_path / n, read_only=True).steps()[-1] for n, c in runs.items()]
    assert min(ends) < max(ends) <= 40


def test_names_grids_and_what_differs():
    values = parse_grid(["loss.r=0.5,1", "loss.w=1,10"])
    runs = grid(Config(), values)
    assert list(runs) == ["r=0.5_w=1", "r=0.5_w=10", "r=1_w=1", "r=1_w=10"]
    assert runs["r=0.5_w=10"].loss.r == 0.5 and runs["r=0.5_w=10"].loss.w == 10
    assert not runs_together(runs)
    assert runs_together(grid(Config(), parse_grid(["model.hidden=8,16"]))) == ["model.hidden"]
    for text in ("loss.w", "w=1", "loss.w=1,,2", "loss.w=1,1"):
        with pytest.raises(ConfigError, match="--grid"):
            parse_grid([text])
    with pytest.raises(ConfigError, match="is not a setting"):
        grid(Config(), {"loss.weight": ["1"]})
    with pytest.raises(ConfigError, match="'much' is not of type float"):
        grid(Config(), {"loss.w": ["much"]})


def test_how_many_fit():
    assert at_most(peak=10, shared=2, limit=10) == 1
    assert at_most(peak=10, shared=2, limit=33) == 3
    with pytest.raises(ConfigError, match="launch.plan"):
        at_most(peak=10, shared=2, limit=9)


@pytest.mark.parametrize("platform", ["cpu", pytest.param("tpu", marks=pytest.mark.system)])
def test_sixteen_members_take_what_the_planner_says(data, monkeypatch, platform):
    """Both forms: one member after the other (CPU), and all at once; memory of XLA's program."""
    monkeypatch.setattr("negflax.train.members.platform", lambda: platform)
    one, mesh = config(model={"hidden": 64, "embedding": 64}), make_mesh(MeshConfig())
    sizes = planning.Sizes(data.catalogue.table_rows, data.catalogue.feature_sizes)
    plan = planning.make_plan(one, sizes, mesh, planning.Machine(1, 1, 1, 0))
    shared = sum(plan.memory[part] for part in ("batch", "related", "sampler"))
    wide = member_mesh(mesh, 16)
    trainer = trainer_of(one, data, group_mesh(wide))
    weights = [loss_weights(one.loss, "float32", trainer.model.num_rows)] * 16
    population = MemberTrainer(trainer, wide, weights)
    state = population.stack([trainer.init() for _ in range(16)])
    batch = StreamBatches(data, one.batch, one.labels, one.train.splits).batch(0)
    batch = jax.device_put(batch, meshes.split(wide))
    memory = population.lower(state, batch).compile().memory_analysis()
    needed = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    estimate = plan.peak + 15 * (plan.peak - shared)
    assert needed <= 1.1 * estimate
    assert at_most(plan.peak, shared, int(1.1 * estimate)) >= 16
    assert plan.peak * 4 < needed
