"""Worlds that differ in one mechanism: each is asked once."""

import dataclasses
import json
from types import SimpleNamespace

import pytest

from launch import sensitivity
from negflax.config import CalibrationConfig, Config, ConfigError
from negflax.simulate.responsiveness import Settings

BOREDOM = ("default", "boredom_loss = 0.125", "boredom_loss = 0.5")


@pytest.fixture
def asked(monkeypatch):
    """The worlds that were asked, by a stand-in for what takes minutes."""
    found = []

    def row(config, folder, settings, train):
        found.append(config.world.parameters)
        return {"dislikes": 0.05, "log": [settings.pairs, -0.4, -0.2]}

    flags = SimpleNamespace(start=lambda workdir: None, JSON=SimpleNamespace(value=""))
    monkeypatch.setattr(sensitivity, "_row", row)
    monkeypatch.setattr(sensitivity, "shared", flags)
    return found


def test_what_was_asked_before_is_kept(asked, tmp_path, capsys, monkeypatch):
    settings = Settings(pairs=7)
    for _ in range(2):
        sensitivity.run(Config(), str(tmp_path), settings, True, ["boredom_loss"])
        rows = json.loads((tmp_path / "sensitivity.json").read_text())["rows"]
        assert tuple(row["world"] for row in rows) == BOREDOM
        assert asked == [(), *((world,) for world in BOREDOM[1:])]
    assert "boredom_loss = 0.5" in capsys.readouterr().out
    more = dataclasses.replace(settings, pairs=8)
    sensitivity.run(Config(), str(tmp_path), more, True, ["boredom_loss"])
    assert len(asked) == 6
    rows = json.loads((tmp_path / "sensitivity.json").read_text())["rows"]
    assert [row["log"][0] for row in rows] == [8, 8, 8]
    monkeypatch.setattr(sensitivity.ceiling, "VERSION", 0)  # of another observer
    sensitivity.run(Config(), str(tmp_path), more, True, ["boredom_loss"])
    assert len(asked) == 9


def test_a_mechanism_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ConfigError, match="unknown mechanism `boredom`"):
        sensitivity.run(Config(), str(tmp_path), Settings(), False, ["boredom"])


@pytest.mark.parametrize("wanted", [True, False])
def test_an_arm_is_calibrated_if_its_config_wants_that(wanted, tmp_path, monkeypatch):
    steps = []
    for name in ("train_run", "calibrate_run", "load_calibrated"):
        monkeypatch.setattr(sensitivity, name, lambda *of, name=name: steps.append(name))
    config = dataclasses.replace(Config(), calibration=CalibrationConfig(after_training=wanted))
    sensitivity._trained(config, tmp_path, None)
    assert steps == ["train_run", *["calibrate_run"] * wanted, "load_calibrated"]
