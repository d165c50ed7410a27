"""The study end to end: fixed names, files, and nothing done twice."""

from pathlib import Path

import pytest
from programs import figures, run

CONFIG = Path(__file__).parents[2] / "configs" / "study_synthetic.py"
SMALL = {
    "world.num_users": 80, "world.num_items": 100, "world.steps": 30, "batch.rows": 4,
    "batch.length": 10, "model.hidden": 8, "model.embedding": 8, "loss.positives_only_steps": 2,
    "loss.ramp_steps": 1, "optimizer.warmup_steps": 1, "train.steps": 8, "train.log_every": 1,
    "train.eval_every": 4, "train.checkpoint_every": 4, "eval.history": 10, "eval.bootstrap": 20,
}  # fmt: skip

pytestmark = [
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),
    pytest.mark.system,
]


def test_the_study_from_settings_to_page(tmp_path):
    arguments = (
        "study", f"--config={CONFIG}", f"--workdir={tmp_path}", "--quick", "--objectives=ntr",
        *[f"--config.{key}={value}" for key, value in SMALL.items()],
    )  # fmt: skip
    run(*arguments)
    found = figures(tmp_path / "study.json")
    for name in ("ssm", "ntr"):
        assert isinstance(found[f"pareto/{name}"], bool)
        for metric in ("hr_p", "hr_n", "delta"):
            assert found[f"{name}/{metric}_low"] <= found[f"{name}/{metric}"]
            assert found[f"{name}/{metric}"] <= found[f"{name}/{metric}_high"]
        assert 0 <= found[f"{name}/diverged_share"] <= 1
    assert "Floors, test period" in (tmp_path / "study.html").read_text()
    for file in ("front.png", "validation.csv", "small_worlds.csv"):
        assert (tmp_path / file).stat().st_size

    finished = sorted((tmp_path / "figures").iterdir())
    assert len(finished) == 1 + 2 + 2 * 2
    before = [path.stat().st_mtime_ns for path in finished]
    run(*arguments)
    assert before == [path.stat().st_mtime_ns for path in finished]
    assert found == figures(tmp_path / "study.json")
