import json

import pytest

from benchmarks import device_check


def test_the_rehearsal_runs_every_part_but_whole_steps(tmp_path):
    out = tmp_path / "device.json"
    assert device_check.main(["--rehearse", "--parts=correct,loss", f"--json={out}"]) == 0
    found = json.loads(out.read_text())
    assert all(row["good"] for row in found["correct"]) and all("ms" in x for x in found["loss"])


@pytest.mark.system  # compiles a whole step
def test_a_step_is_timed_over_the_catalogue(tmp_path):
    out = tmp_path / "device.json"
    assert device_check.main(["--rehearse", "--parts=tables", f"--json={out}"]) == 0
    assert json.loads(out.read_text())["tables"][0]["states_per_s"] > 0
