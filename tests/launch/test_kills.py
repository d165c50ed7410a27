"""Twenty SIGKILLs at random moments of a run with one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KILLS = 20


@pytest.mark.system
def test_killed_at_random_moments_a_run_ends_with_the_same_bits(tmp_path):
    path = Path(os.environ.get("NEGFLAX_FIGURES_DIR", tmp_path)) / "kills.json"
    command = [sys.executable, "-m", "benchmarks.kills", f"--kills={KILLS}", f"--json={path}"]
    subprocess.run(command, check=True, cwd=ROOT)
    found = json.loads(path.read_text())
    assert found["kills_survived"] == found["kills_tried"] == KILLS
