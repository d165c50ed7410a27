"""A run that is calibrated after training uses it, and launch.calibrate takes it away."""

import dataclasses
import importlib
import json

import kinds
import numpy as np
import pytest
from programs import fresh_flags, run

import negflax
from negflax.calibration.stored_calibration import FILE
from negflax.config import ConfigError, LabelConfig, event_log_defaults
from negflax.config.feedback_calibration import CalibrationConfig
from negflax.train.checkpoint import CheckpointError


def fit(out, objective="ssm", items=None, test=False, labels=None):
    config = event_log_defaults(4_000)
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, split="user_fraction", min_item_events=1),
        eval=dataclasses.replace(config.eval, history=32, bootstrap=0),
        calibration=CalibrationConfig(after_training=True, kinds=("cluster",), min_users=5),
        train=dataclasses.replace(config.train, steps=4, epochs=1.0, eval_every=0),
        loss=dataclasses.replace(config.loss, objective=objective),
        labels=labels or config.labels,
    )
    negflax.fit(kinds.log(), config, out, items=items, test=test)
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("calibrated"), items=kinds.items())


def share_of_kind(found):
    return np.mean([kinds.kind(item) == 0 for item in found["item_id"].to_pylist()])


def test_a_dislike_takes_its_kind_out_of_the_list(folder):
    stored = json.loads((folder / FILE).read_text())
    assert stored["values"]["cluster"]["aversion/dislike"] > 0
    shares = {}
    for calibrated in (True, False):
        session = negflax.load(folder, calibrated=calibrated).session()
        for item in (0, 1, 2, 3, 4, 5):
            session.add({"item_id": item, "like": True})
        before = share_of_kind(session.recommend(10))
        session.add({"item_id": 10, "dislike": True})
        shares[calibrated] = before, share_of_kind(session.recommend(10))
    assert shares[True][1] < shares[True][0] and shares[True][1] <= 0.1
    assert shares[False][1] > shares[True][1]


@pytest.mark.parametrize("objective", ["ssm_upweighted", "ssm"])
def test_a_run_that_cannot_be_calibrated_is_trained_and_tested(objective, tmp_path, caplog):
    items = kinds.items() if objective == "ssm_upweighted" else None  # without kinds
    fit(tmp_path, objective, items, test=True)
    assert "not calibrated" in caplog.text
    assert (tmp_path / "results.json").exists() and not (tmp_path / FILE).exists()


def test_damage_is_told(folder):
    text = (folder / FILE).read_text()
    try:
        (folder / FILE).write_text(text[:50])
        with pytest.raises(CheckpointError, match="launch.calibrate"):
            negflax.load(folder)
    finally:
        (folder / FILE).write_text(text)


def test_training_again_keeps_a_calibration_of_other_settings(folder):
    run("calibrate", f"--workdir={folder}", "--set=keep=0", "--set=omega=2")
    own = (folder / FILE).read_text()
    fit(folder, items=kinds.items())
    assert (folder / FILE).read_text() == own
    (folder / FILE).write_text(own[:50])  # a damaged one is replaced
    fit(folder, items=kinds.items())
    assert json.loads((folder / FILE).read_text())["values"]


def test_the_program(folder, tmp_path, capsys):
    arguments = f"--workdir={folder}", "--set=kinds=cluster", f"--json={tmp_path}/a"
    run("calibrate", *arguments)
    told = capsys.readouterr().out
    assert "rejected" in told and "stored" in told
    assert json.loads((tmp_path / "a").read_text())["values"]["cluster"]
    run("calibrate", f"--workdir={folder}", "--delete")
    assert "deleted" in capsys.readouterr().out
    assert not (folder / FILE).exists()
    for workdir, words in ((folder, "no calibration to delete"), (tmp_path, "config.json")):
        with pytest.raises(CheckpointError, match=words):
            run("calibrate", f"--workdir={workdir}", "--delete")
    for setting, words in (
        ("kinds", "write --set=name=value"),
        ("kinds=", "write --set=name=value"),
        ("kinds=()", "config.calibration.kinds"),
        ("after_training=True", "is not a setting"),
        ("prior_deviation=1e-300", "prior_deviation"),
        ("omega=-1", "config.calibration.omega"),
        ("labels=1e5", "give a whole number"),
        ("kinds=cluster,cluster", "names one twice"),
    ):
        with pytest.raises(ConfigError, match=words):
            run("calibrate", f"--workdir={folder}", f"--set={setting}")


def test_runs_of_other_data_are_not_compared_within_users(folder, tmp_path):
    other = fit(tmp_path / "other", labels=LabelConfig(positive=("like",), negative=()))
    with pytest.raises(ConfigError, match="have other data or label rules"):
        run("within_user", f"--workdir={folder},{other}")


def test_data_is_the_same_wherever_it_lies(folder):
    one = negflax.load(folder).trained
    data, catalogue = one.config.data, one.catalogue
    moved = dataclasses.replace(one.config, data=dataclasses.replace(data, path="elsewhere"))
    split = dataclasses.replace(one.config, data=dataclasses.replace(data, test_fraction=0.3))
    dealt = dataclasses.replace(catalogue, clusters_VC=catalogue.clusters_VC[::-1])
    with fresh_flags():
        within_user = importlib.import_module("launch.within_user")
    for other, same in (
        (dataclasses.replace(one, config=moved), True),
        (dataclasses.replace(one, config=split), False),
        (dataclasses.replace(one, catalogue=dealt), False),
    ):
        assert within_user.same_data(one, other) is same
