"""A sweep: the baseline beside each value, one chosen, both retrained, nothing trained twice."""

from pathlib import Path

import pytest
from programs import figures, run

from launch.sweep import settings
from negflax.config import Config, ConfigError
from negflax.train.run_config import CheckpointError
from negflax.train.writers import read_metrics

# ml_collections loads config files in a way that Python 3.12 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

CONFIG = Path(__file__).parents[2] / "configs" / "synthetic.py"
SMALL = {
    "world.num_users": 80,
    "world.num_items": 100,
    "world.steps": 30,
    "batch.rows": 4,
    "batch.length": 10,
    "model.hidden": 8,
    "model.embedding": 8,
    "loss.positives_only_steps": 2,
    "loss.ramp_steps": 1,
    "loss.omega": 30.0,
    "optimizer.warmup_steps": 1,
    "train.steps": 8,
    "train.eval_every": 4,
    "train.checkpoint_every": 4,
    "eval.history": 10,
    "eval.bootstrap": 20,
}


def test_a_yes_no_setting_is_read_as_one():
    found = settings(Config(), "data.spread_rows", ["True", "False"])
    assert [c.data.spread_rows for n, c in found.items() if n != "ssm"] == [True, False]
    with pytest.raises(ConfigError, match="'maybe' is not of type bool"):
        settings(Config(), "data.spread_rows", ["maybe"])


def sweep(workdir, *arguments):
    run(
        "sweep",
        f"--config={CONFIG}",
        f"--workdir={workdir}",
        *arguments,
        *[f"--config.{key}={value}" for key, value in SMALL.items()],
    )


@pytest.mark.system
def test_a_label_rule_reaches_the_training(tmp_path, capsys):
    arguments = ("--key=labels.negative", "--values=dislike,dislike|skip")
    sweep(tmp_path, *arguments)
    found = figures(tmp_path / "sweep.json")
    assert found["chosen"] in ("negative=dislike", "negative=dislike_skip")
    for name in ("ssm", found["chosen"]):
        assert f"test/{name}/hr_n@10" in found
    one, other = (
        [x["loss_negative"] for x in read_metrics(tmp_path / name) if x["kind"] == "train"]
        for name in ("negative=dislike", "negative=dislike_skip")
    )
    assert one != other
    assert "Validation front" in (tmp_path / "sweep.html").read_text()
    # Judged alike: by the labels of the config, not by those of the setting.
    assert len({found[f"valid/{n}/negatives"] for n in ("ssm", "negative=dislike")}) == 1

    checkpoints = tmp_path / "ssm" / "checkpoints"
    before = [p.stat().st_mtime_ns for p in sorted(checkpoints.iterdir())]
    sweep(tmp_path, *arguments)
    assert before == [p.stat().st_mtime_ns for p in sorted(checkpoints.iterdir())]
    assert found == figures(tmp_path / "sweep.json")


@pytest.mark.parametrize("arguments", [("--key=loss.omeg",), ("--values=much",)])
def test_a_wrong_key_or_value_is_named(tmp_path, arguments):
    with pytest.raises(ConfigError, match=arguments[0].split("=")[0]):
        sweep(tmp_path, *arguments)


@pytest.mark.system
def test_a_grid_as_a_population(tmp_path, capsys):
    grid = ["--config.loss.weight_policy=constant", "--r_grid=0.5,1", "--w_grid=1,1000"]
    sweep(tmp_path, *grid)
    printed = capsys.readouterr().out
    found = figures(tmp_path / "sweep.json")
    names = ["r=0.5_w=1", "r=0.5_w=1000", "r=1_w=1", "r=1_w=1000"]
    assert [name for name in names if f"valid/{name}/hr_p@10" in found] == names
    assert found["best"] in names and f"test/{found['best']}/hr_n@10" in found
    assert "popularity" in printed and set(found["front"]) <= {*names, *found["front"]}
    assert "Front on validation" in (tmp_path / "sweep.html").read_text()

    sweep(tmp_path, *grid)  # nothing is trained again
    assert found == figures(tmp_path / "sweep.json")
    run(
        "evaluate",
        f"--workdir={tmp_path / found['best']}",
        "--split=valid",
        f"--json={tmp_path / 'valid.json'}",
    )
    assert figures(tmp_path / "valid.json")["hr_p@10"] == pytest.approx(
        found[f"valid/{found['best']}/hr_p@10"]
    )

    with pytest.raises(CheckpointError, match="another config .optimizer.clip_norm"):
        sweep(tmp_path, *grid, "--config.optimizer.clip_norm=0.5")

    alone = tmp_path / "alone"
    with pytest.raises(ConfigError, match="4 of 4 members are not trained.*--array=4"):
        sweep(alone, *grid, "--mode=array")
    for member in range(4):
        sweep(alone, *grid, "--mode=array", f"--sweep_member={member}")
    sweep(alone, *grid, "--mode=array")
    again = figures(alone / "sweep.json")
    for name in names:
        one, other = (
            [x["loss"] for x in read_metrics(folder / name) if x["kind"] == "train"]
            for folder in (tmp_path, alone)
        )
        assert one == pytest.approx(other, rel=1e-5)
        key = f"valid/{name}/weighted_loss"
        assert found[key] == pytest.approx(again[key], rel=1e-3)
    with pytest.raises(ConfigError, match="has members 0 to 3"):
        sweep(alone, *grid, "--sweep_member=4")
    with pytest.raises(ConfigError, match="model.hidden cannot differ.*--mode=sequential"):
        sweep(tmp_path / "hidden", "--grid=model.hidden=4,8")


@pytest.mark.system
def test_a_search_goes_on(tmp_path):
    pytest.importorskip("optuna", reason="runs where Optuna is installed: make setup-test")
    words = ["--config.loss.weight_policy=constant", "--w_grid=1,1000", "--notest"]
    sweep(tmp_path, *words, "--trials=2")
    first = figures(tmp_path / "sweep.json")
    sweep(tmp_path, *words, "--trials=3")
    found = figures(tmp_path / "sweep.json")
    trials = {key.split("/")[1] for key in found if key.startswith("valid/")}
    assert trials == {"trial=0", "trial=1", "trial=2"}
    assert all(found[key] == value for key, value in first.items() if key.startswith("valid/"))
    with pytest.raises(ConfigError, match="a search needs two different numbers"):
        sweep(tmp_path, "--w_grid=0,1", "--trials=2")
