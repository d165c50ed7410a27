"""The study end to end: fixed names, files, and nothing done twice."""

from pathlib import Path

import pytest
from programs import figures, run

CONFIG = Path(__file__).parents[2] / "configs" / "study_synthetic.py"
SMALL = {
    "world.num_users": 80,
    "world.num_items": 100,
    "world.steps": 30,
    "batch.rows": 4,
    "batch.length": 10,
    "model.hidden": 8,
    "model.embedding": 8,
    "optimizer.warmup_steps": 1,
    "train.epochs": 0.5,
    "eval.history": 10,
    "eval.bootstrap": 50,
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),
    pytest.mark.system,
]


def test_the_study_from_settings_to_page(tmp_path):
    arguments = (
        "study",
        f"--config={CONFIG}",
        f"--workdir={tmp_path}",
        "--quick",
        "--objectives=ntr",
        "--variants=1",
        *[f"--config.{key}={value}" for key, value in SMALL.items()],
    )
    run(*arguments)
    found = figures(tmp_path / "study.json")
    for name in ("ssm", "ntr"):
        assert isinstance(found[f"pareto/{name}"], bool)
        for metric in ("hr_p", "hr_n", "delta"):
            assert found[f"{name}/{metric}_low"] <= found[f"{name}/{metric}"]
            assert found[f"{name}/{metric}"] <= found[f"{name}/{metric}_high"]
    assert 0 <= found["ntr/diverged_share"] <= 1
    assert found["ntr/worthwhile"] in ("yes", "no", "undecided")
    assert found["ntr/hr_n_vs_ssm_low"] <= found["ntr/hr_n_vs_ssm_high"]
    for name in ("negative_example", "counts", "counts_rate_adjusted"):
        assert found[f"{name}/hr_n_low"] <= found[f"{name}/hr_n"]
        assert f"{name}/hr_p_vs_ssm" in found
    page = (tmp_path / "study.html").read_text()
    assert "Does ntr beat baselines that react to dislikes" in page
    for part in ("The answer", "signed_popularity", "composed vectors", "Shared warm start"):
        assert part in page
    for file in ("front.png", "test.csv", "validation.csv"):
        assert (tmp_path / file).stat().st_size

    finished = sorted((tmp_path / "runs").glob("*.json"))
    before = [path.stat().st_mtime_ns for path in finished]
    run(*arguments)
    assert before == [path.stat().st_mtime_ns for path in finished]
    assert found == figures(tmp_path / "study.json")
