"""The images by inspection: targets of the guide, pins, no root, sources that exist."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "Dockerfile").read_text()


def stages():
    parts = re.split(r"^FROM (\S+) AS (\w+)\n", TEXT, flags=re.M)[1:]
    return {name: (source, body) for source, name, body in zip(*[iter(parts)] * 3, strict=True)}


def test_targets_are_those_of_the_guide_and_run_without_rights():
    named = re.findall(r"docker build --target=(\w+)", (ROOT / "docs/launching.md").read_text())
    found = stages()
    assert set(named) == set(found) - {"base"}
    for name in named:
        source, body = found[name]
        assert source == "base" and body.rstrip().endswith("USER 10001")


def test_what_hadolint_asks_for():
    """Of its rules those that apply: DL3006/7 tagged images, DL3042 no cache, DL3013 pins,
    DL3000 absolute folders, DL3020 COPY, DL3025 CMD as a list, DL4003 one CMD."""
    images = re.findall(r"^FROM (\S+)", TEXT, re.M)
    assert all(":" in image or image == "base" for image in images)
    assert "PIP_NO_CACHE_DIR=1" in TEXT and "ADD " not in TEXT and "sudo" not in TEXT
    assert all(x.startswith("/") for x in re.findall(r"^WORKDIR (\S+)", TEXT, re.M))
    assert re.findall(r"^CMD (.)", TEXT, re.M) == ["["]
    for install in re.findall(r"pip install (.*)", TEXT):
        assert re.search(r"--requirement|--no-deps|==", install), install


HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")


@pytest.mark.system
@pytest.mark.skipif(not HADOLINT, reason="runs where hadolint is installed: make test-system")
def test_hadolint():
    found = subprocess.run([HADOLINT, ROOT / "Dockerfile"], text=True, capture_output=True)
    assert not found.returncode and not found.stdout, found.stdout


def test_what_is_copied_exists_and_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().split()
    for sources in re.findall(r"^COPY (.+) \S+$", TEXT, re.M):
        for source in sources.split():
            assert (ROOT / source).exists() and f"!{source}" in ignored, source
