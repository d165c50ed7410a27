"""`launch.inspect_data` on every shipped config: it prints, writes JSON and one page."""

import os
import re

import pytest
from programs import figures, run
from test_shipped_configs import CONFIGS, REAL, STARTS, WORLD, own_log, some_users

PREPARED = {"kuairand_pure", "movie_lens"}  # they start from launch.prepare's output
# ml_collections loads config files in a way that Python 3.12 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@pytest.mark.parametrize("name", sorted({*STARTS} - PREPARED))
def test_shipped_configs(name, tmp_path, capsys):
    if name in REAL:
        if not os.environ.get("NEGFLAX_DATA_DIR"):
            pytest.skip("needs NEGFLAX_DATA_DIR, set by .ci/run")
        changes = some_users(REAL[name], tmp_path)
    else:
        changes = own_log(tmp_path) if name == "event_log" else WORLD
    page, out = tmp_path / "page.html", tmp_path / "figures.json"
    settings = [f"--config.{key}={value}" for key, value in changes.items()]
    run(
        "inspect_data",
        f"--config={CONFIGS / name}.py",
        *settings,
        f"--json={out}",
        f"--html={page}",
    )
    printed, found = capsys.readouterr().out, figures(out)
    for title in ("Size", "Periods", "Rules", "Conflicts", "Nulls", "Held-out negatives"):
        assert title in printed
    for warning in found["warnings"]:
        assert warning["what"] in printed and warning["remedy"] in printed
    count = [split["events"] for split in found["splits"]]
    assert sum(count) == found["events"] > 0 and count[0] > 0 and count[2] > 0
    for split in found["splits"]:
        labels = split["positives"] + split["negatives"] + split["unlabelled"]
        assert labels == split["events"]
    for row in found["strata"]:
        total = row["same_item"] + row["related"] + row["unrelated"]
        assert total == pytest.approx(1 if row["negatives"] else 0)
    text = page.read_text()
    assert "</html>" in text and text.count("<svg") >= 2
    assert not re.findall(r"(?:src|href)=\"(?!#)", text), "the page needs nothing else"
