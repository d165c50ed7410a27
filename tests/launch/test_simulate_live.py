"""Live experiments end to end: fixed names, a page, nothing done twice, same figures again."""

from pathlib import Path

import numpy as np
import pytest
from programs import figures, run

from negflax.config import ConfigError
from negflax.files import write_arrays
from negflax.simulate.live.user_metrics import METRICS

CONFIG = Path(__file__).parents[2] / "configs" / "live.py"
SMALL = {
    "world.num_users": 40,
    "world.num_items": 60,
    "world.num_creators": 8,
    "world.num_clusters": 5,
    "batch.rows": 4,
    "batch.length": 20,
    "model.hidden": 8,
    "model.embedding": 8,
    "model.feature_dim": 2,
    "train.steps": 2,
}

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


def arguments(folder, arms="drop_disliked", days=2, seeds="0"):
    return (
        "simulate",
        "live",
        f"--config={CONFIG}",
        f"--workdir={folder}",
        "--surfaces=home",
        f"--arms={arms}",
        f"--days={days}",
        f"--seeds={seeds}",
        "--log_days=14",
        "--first_steps=1",
        "--retrain_every=1",
        "--retrain_steps=1",
        *[f"--config.{key}={value}" for key, value in SMALL.items()],
    )


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("seed*/figures/*")}


def finish(folder, seeds, *arms):
    """Puts down figures as finished arms leave them, so that nothing is left to simulate."""
    rng = np.random.default_rng(0)
    for path in (folder / f"seed{s}" / "figures" / f"home-{a}.npz" for s in seeds for a in arms):
        users = {
            f"{part}/{metric}": rng.integers(1, 5, 40).astype(float)
            for part in ("numerator", "denominator")
            for metric in METRICS
        }
        write_arrays(path, users | {"curves/dislike_rate": rng.random(2)})


def test_what_is_printed_and_written(tmp_path):
    finish(tmp_path, (0, 2), "no_signal", "drop_disliked")
    files = times(tmp_path)
    run(*arguments(tmp_path, seeds="0,2"))
    assert times(tmp_path) == files
    found = figures(tmp_path / "live.json")
    of_seeds = found["by_seed"]["home/drop_disliked against no_signal"]["dislike_rate"]
    change = np.expm1(np.log1p(of_seeds).mean())
    assert found["drop_disliked/dislike_rate"] == pytest.approx(change)
    assert found["seeds"] == [0, 2] and len(of_seeds) == 2
    run(*arguments(tmp_path, seeds="2"))  # one replicate: the interval is over users
    single = figures(tmp_path / "live.json")
    assert single["drop_disliked/dislike_rate"] == pytest.approx(of_seeds[1])
    assert single["drop_disliked/dislike_rate_low"] < of_seeds[1]
    for end in ("", "_low", "_high"):
        assert (
            found[f"drop_disliked/dislike_rate{end}"]
            == found[f"home/drop_disliked/dislike_rate{end}"]
        )
        assert f"home/drop_disliked/ctr{end}" in found
    assert "reproduced/home/drop_disliked/dislike_rate" in found
    page = (tmp_path / "live.html").read_text()
    assert "day by day" in page and "-0.84" in page
    with pytest.raises(ConfigError, match="other settings"):
        run(*arguments(tmp_path, days=3))
    for wrong in ({"arms": "drop_dislikd"}, {"seeds": "0,a"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            run(*arguments(tmp_path, **wrong))


def test_labels_are_compared_with_baselines_that_train_nothing(tmp_path, capsys):
    arms = ("no_signal", "negative_example", "counts", "input_and_label")
    finish(tmp_path, (0, 1), *arms)
    run(*arguments(tmp_path, arms=",".join(arms), seeds="0,1"))
    of_seeds = figures(tmp_path / "live.json")["by_seed"]
    change = of_seeds["home/input_and_label against counts"]["dislike_rate"]
    said = capsys.readouterr().out
    assert len(change) == 2 and "home, counts: " in said and "home, negative_example: " in said
    assert "train nothing" in (tmp_path / "live.html").read_text()


@pytest.mark.system
def test_an_arm_that_is_missing_is_served_again_with_the_same_figures(tmp_path):
    run(*arguments(tmp_path))
    found, files = figures(tmp_path / "live.json"), times(tmp_path)
    assert len(files) == 4
    (tmp_path / "seed0" / "figures" / "home-drop_disliked.npz").unlink()
    run(*arguments(tmp_path))
    assert figures(tmp_path / "live.json") == found
    kept = {name for name, moment in times(tmp_path).items() if moment == files[name]}
    assert kept == {"home-no_signal.npz", "home-no_signal.json"}
