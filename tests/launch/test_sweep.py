"""A sweep: the baseline beside each value, one chosen, both retrained, nothing trained twice."""

from pathlib import Path

import pytest
from programs import figures, run

from launch.sweep import settings
from negflax.config import Config, ConfigError
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
