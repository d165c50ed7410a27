"""A wheel holds negflax alone, and works where there is no repository."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("negflax", "launch", "configs", "pyproject.toml", "setup.py", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, as a build writes beside the sources."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    command += ["--no-index", "-q", "-w", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs Python code in an empty folder that sees the wheel and its dependencies alone."""
    target, elsewhere = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("elsewhere")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(target)
    # The test environment holds negflax by a finder, which must not answer here.
    start = "import sys; sys.meta_path = [f for f in sys.meta_path if 'Editable' not in repr(f)]; "

    def run(code, *arguments):
        environment = os.environ | {"PYTHONPATH": str(target), "JAX_PLATFORMS": "cpu"}
        return subprocess.run(
            [sys.executable, "-P", "-c", start + code, *arguments],
            cwd=elsewhere,
            env=environment,
            text=True,
            capture_output=True,
        )

    run.folder = elsewhere
    return run


COMMAND = "from negflax.cli.main import main; main()"


def test_the_wheel_contains_only_negflax(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert top == {"negflax"}
    for name in ("configs/synthetic.py", "launch/train.py", "evaluate/report/report.html.j2"):
        assert f"negflax/{name}" in names
    (entry,) = (name for name in names if name.endswith("entry_points.txt"))
    assert b"negflax = negflax.cli.main:main" in zipfile.ZipFile(wheel).read(entry)


def test_every_shipped_config_loads(installed):
    names = sorted(p.stem for p in (ROOT / "configs").glob("[!_]*.py"))
    done = installed(
        "import negflax; from negflax.config import shipped, shipped_path\n"
        "for name in sys.argv[1:]: assert 'site' in str(shipped_path(name)), shipped(name)\n"
        "for name in sys.argv[1:]: shipped(name)\n"
        "import importlib.util\n"
        "assert not any(importlib.util.find_spec(n) for n in ('launch', 'configs', 'benchmarks'))",
        *names,
    )
    assert done.returncode == 0, done.stderr


def test_negflax_train_outside_the_repository(installed):
    rows = ["userId,movieId,stars,timestamp"]
    for user in range(30):
        for place in range(12):
            item = (5 * user + 7 * place) % 20
            stars, time = 1 + 4 * ((user + place) % 2), 1_000_000_000 + 86_400 * user + place
            rows.append(f"{user},{item},{stars},{time}")
    (installed.folder / "ratings.csv").write_text("\n".join(rows) + "\n")
    done = installed(
        COMMAND,
        *("train", "ratings.csv", "--like=stars >= 4", "--dislike=stars <= 2", "--workdir=run"),
        *("--json=figures.json", "--config.train.epochs=1.0"),
    )
    assert done.returncode == 0, done.stderr
    assert "negflax train --config=event_log" in done.stdout
    assert (installed.folder / "figures.json").exists()
    assert (installed.folder / "run/report.html").exists()
    assert "\nease " in done.stdout and "\nitem_knn " in done.stdout
