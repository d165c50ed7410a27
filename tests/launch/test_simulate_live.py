"""Live experiments end to end: fixed names, a page, nothing done twice, same figures again."""

from pathlib import Path

import pytest
from programs import figures, run

from negflax.config import ConfigError

CONFIG = Path(__file__).parents[2] / "configs" / "live.py"
SMALL = {
    "world.num_users": 40, "world.num_items": 60, "world.num_creators": 8,
    "world.num_clusters": 5, "batch.rows": 4, "batch.length": 20, "model.hidden": 8,
    "model.embedding": 8, "model.feature_dim": 2, "train.steps": 2,
}  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


def test_the_experiment_from_world_to_page(tmp_path):
    arguments = (
        "simulate", "live", f"--config={CONFIG}", f"--workdir={tmp_path}", "--surfaces=home",
        "--days=2", "--log_days=14", "--first_steps=1", "--retrain_every=1", "--retrain_steps=1",
        *[f"--config.{key}={value}" for key, value in SMALL.items()],
    )  # fmt: skip
    run(*arguments, "--arms=drop_disliked")
    found = figures(tmp_path / "live.json")
    for end in ("", "_low", "_high"):
        assert f"drop_disliked/dislike_rate{end}" in found
        assert f"home/drop_disliked/ctr{end}" in found
    assert "reproduced/home/drop_disliked/dislike_rate" in found
    assert "day by day" in (tmp_path / "live.html").read_text()

    files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "figures").iterdir()}
    assert len(files) == 4
    (tmp_path / "figures" / "home-drop_disliked.npz").unlink()
    run(*arguments, "--arms=drop_disliked")
    assert figures(tmp_path / "live.json") == found
    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "figures").iterdir()}
    assert {name for name in now if now[name] == files[name]} == {
        "home-no_signal.npz", "home-no_signal.json"
    }  # fmt: skip
    with pytest.raises(ConfigError, match="other settings"):
        run(*arguments, "--arms=drop_disliked", "--days=3")
    with pytest.raises(ConfigError, match="arms"):
        run(*arguments, "--arms=drop_dislikd")
