"""Named worlds: each run is trained and calibrated once, and measured again if it has changed."""

import dataclasses
import json

import pytest

from launch import worlds
from negflax.calibration import Calibration, read_calibration, write_calibration
from negflax.calibration.kind_terms import SCALARS, Scales
from negflax.config import Config, ConfigError, LossConfig
from negflax.data import DataError
from negflax.simulate.responsiveness import Settings
from negflax.simulate.terms_kept import with_terms
from negflax.simulate.walk import Plan
from negflax.train.run_config import CheckpointError, read_config, write_config

BELIEF = {"aversion/strength": 2.0, "aversion/prior": -1.0, "aversion/dislike": 1.5}
VALUES = {"cluster": {"seen": 0.3, "dislike": -0.4, **BELIEF}}


def calibration(**values):
    return Calibration("model", Scales(3, 5.0, 0.9), values or VALUES, {"rows": []})


@pytest.fixture
def asked(monkeypatch):
    """What was trained and measured, by stand-ins for what takes minutes."""
    found = []

    def trained(config, folder, name, world_seed, seed, settings):
        for arm in worlds.ARMS:
            run = folder / f"world{world_seed}" / arm / f"seed{seed}"
            run.mkdir(parents=True, exist_ok=True)
            write_calibration(run, calibration())
        found.append(("train", name, world_seed, seed))

    def figures(of_worlds, settings):
        found.append(("measure", len(of_worlds), settings.pairs))
        return {"rows": [{"arm": "input_only"}], "named": {"share/input_only/cluster": 0.9}}

    monkeypatch.setattr(worlds, "_train", trained)
    monkeypatch.setattr(worlds, "_world", lambda home, seeds: (home, seeds))
    monkeypatch.setattr(worlds, "_figures", figures)
    monkeypatch.setattr(worlds.shared, "start", lambda workdir: None)
    monkeypatch.setattr(worlds.shared, "JSON", dataclasses.make_dataclass("Flag", ["value"])(""))
    return found


def test_one_seed_everywhere_comes_first_and_results_are_kept(asked, tmp_path, capsys, monkeypatch):
    for _ in range(2):
        worlds.run(Config(), tmp_path, ["loose", "control"], [0, 1], [0, 1], Settings(pairs=7))
    trained = [one[1:] for one in asked if one[0] == "train"][:8]
    assert trained[:4] == [("loose", 0, 0), ("control", 0, 0), ("loose", 1, 0), ("control", 1, 0)]
    assert [one for one in asked if one[0] == "measure"] == [("measure", 2, 7)] * 2
    assert "loose" in capsys.readouterr().out
    figures = json.loads((tmp_path / "worlds.json").read_text())
    assert figures["control/share/input_only/cluster"] == 0.9
    assert [row["world"] for row in figures["rows"]] == ["loose", "control"]

    run = tmp_path / "loose" / "world1" / "input_only" / "seed1"
    write_calibration(run, calibration(cluster={"seen": 0.1}))
    names = ["loose", "control"]
    asked.clear()
    for name in names:
        worlds._measured(tmp_path / name, [0, 1], [0, 1], Settings(pairs=7))
    assert asked == [("measure", 2, 7)]  # of the changed calibration alone
    monkeypatch.setattr(worlds.ceiling, "VERSION", 0)  # of another observer
    worlds._measured(tmp_path / "loose", [0, 1], [0, 1], Settings(pairs=7))
    assert len(asked) == 2


def test_an_unknown_world_is_named(asked, tmp_path):
    with pytest.raises(ConfigError, match=r"unknown \['lose'\]; choose from heedless, grumble"):
        worlds.run(Config(), tmp_path, ["lose"], [0], [0], Settings())
    with pytest.raises(ConfigError, match="--worlds: none is named"):
        worlds.run(Config(), tmp_path, [], [0], [0], Settings())


def test_runs_of_another_config_are_not_passed_off_as_what_was_asked_for(tmp_path):
    one = worlds._config_of(Config(), "loose", 0, worlds.MODEL, 0)
    data = dataclasses.replace(one.data, cache_dir=str(tmp_path / "loose" / "world0" / "data"))
    folder = tmp_path / "loose" / "world0" / worlds.MODEL / "seed0"
    write_config(folder, dataclasses.replace(one, data=data))
    other = dataclasses.replace(Config(), loss=LossConfig(omega=10.0))
    with pytest.raises(CheckpointError, match=r"another config \(loss.omega: "):
        worlds._train(other, tmp_path / "loose", "loose", 0, 0, Settings())


def test_pairs_that_cannot_be_drawn_are_refused_before_training(tmp_path, monkeypatch):
    def no_histories(sequences, settings):
        raise DataError(f"no user has a history of {settings.plan.k} events")

    monkeypatch.setattr(worlds, "open_sequences", lambda config, home: object())
    monkeypatch.setattr(worlds, "histories", no_histories)
    monkeypatch.setattr(worlds, "train_run", lambda *arguments: pytest.fail("it was trained"))
    with pytest.raises(DataError, match="a history of 500 events"):
        worlds._train(Config(), tmp_path, "loose", 0, 0, Settings(plan=Plan(k=500)))


def test_parts_of_a_calibration_have_all_scalars_and_those_left_out_are_0():
    parts = {
        variant: with_terms(calibration(), keeps).values
        for variant, keeps in worlds.VARIANTS.items()
    }
    for values in parts.values():
        assert set(values) == {"cluster", "creator"}
        assert all(set(of_kind) == set(SCALARS) for of_kind in values.values())
    nothing = dict.fromkeys(SCALARS, 0.0)
    assert parts[""]["cluster"] == nothing | VALUES["cluster"]
    assert parts["/alone"] == {"cluster": nothing, "creator": nothing}


def test_a_run_is_that_of_its_world_arm_and_seeds():
    one = worlds._config_of(Config(), "grumble", 2, "input_and_label", 3)
    assert (one.world.name, one.world.seed, one.train.seed) == ("grumble", 2, 3)
    assert (one.loss.objective, one.name) == ("ntr", "input_and_label")
    assert one.calibration.omega == 0


def test_labels_afterwards_are_for_the_calibration_of_a_model_of_positives(tmp_path):
    model, label = (
        worlds._config_of(Config(), "loose", 0, arm, 1) for arm in (worlds.MODEL, worlds.AFTERWARDS)
    )
    assert label.loss == model.loss and label.loss.objective == "ssm"
    assert (model.calibration.omega, label.calibration.omega) == (0.0, label.loss.omega)
    run, copy = (tmp_path / arm / "seed1" for arm in (worlds.MODEL, worlds.AFTERWARDS))
    write_config(run, model)
    write_calibration(run, calibration())
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "some").write_text("weights")
    copy.parent.mkdir()
    worlds._copy_run(run, copy, label)
    assert read_config(copy) == label and read_config(run) == model
    assert (copy / "checkpoints" / "some").read_text() == "weights"
    assert read_calibration(copy) is None and read_calibration(run) is not None
    assert [path.name for path in copy.parent.iterdir()] == ["seed1"]
