"""Every fault of docs/operations.md has a test that is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_tests_that_the_faults_name_exist():
    table = (ROOT / "docs/operations.md").read_text().split("| fault | what happens | test |")[1]
    rows = [line for line in table.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) > 25
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, row
        for path, test in named:
            text = (ROOT / path).read_text()
            assert f"def {test}(" in text, f"{path}::{test}"
            marked = re.search(rf"mark\.system[^\n]*(\n@[^\n]*)*\ndef {test}\(", text)
            assert ("*system*" in row) >= bool(marked), row
