import pytest
from programs import figures, run

# ml_collections loads config files in a way that Python 3.12 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


def test_says_what_does_not_fit_and_what_to_change(tmp_path, capsys):
    out = tmp_path / "plan.json"
    run(
        "plan",
        "--config=configs/event_log.py:3000000",
        "--devices=1",
        "--items=3000000",
        "--config.loss.candidates=uniform",
        "--config.model.embedding=64",
        "--memory_gib=0.5",
        f"--json={out}",
    )
    found = figures(out)
    assert found["devices"] == 1 and not found["fits"]
    assert found["memory"]["rows"] == 3_000_001 * 65 * 4
    assert found["checkpoint_bytes"] >= found["memory"]["rows"] + found["memory"]["slots"]
    assert sum(found["memory"].values()) == found["peak"]
    assert list(found["advice"]) == ["rows"]
    text = capsys.readouterr().out
    assert "does not fit into 0.5 GiB" in text and "config.model.embedding" in text
