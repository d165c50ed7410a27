"""docs/serving.md: its snippets run, and what it names exists."""

import dataclasses
import re
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest

import negflax
from negflax.config import event_log_defaults
from negflax.serve import ListRules
from negflax.serve.export_format import FEATURES, INDEX, ITEMS, REPORT, VOCABULARY, WEIGHTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/serving.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run and its log, as the page assumes them."""
    folder = tmp_path_factory.mktemp("serving")
    rows = [
        (u, (7 * u + 5 * i) % 40, i, i % 3 != 0, i % 3 == 0) for u in range(40) for i in range(12)
    ]
    names = ("user_id", "item_id", "pos", "like", "dislike")
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    pyarrow.csv.write_csv(table, folder / "my_events.csv")
    changes = {
        "data": {"split": "user_fraction", "min_item_events": 1},
        "batch": {"rows": 8, "length": 10},
        "model": {"hidden": 8, "embedding": 8},
        "loss": {"positives_only_steps": 2, "ramp_steps": 1},
        "optimizer": {"warmup_steps": 1},
        "train": {"steps": 4, "eval_every": 4, "checkpoint_every": 4},
    }
    config = event_log_defaults(480)
    parts = {k: dataclasses.replace(getattr(config, k), **v) for k, v in changes.items()}
    config = dataclasses.replace(config, **parts)
    negflax.fit(folder / "my_events.csv", config, folder / "runs/mine", test=False)
    return folder


@pytest.mark.system  # trains a run for them
def test_the_snippets_run(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    codes = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    names = {}
    for code in codes:
        if "qdrant" not in code:
            exec(code, names)
    printed = capsys.readouterr().out
    assert "['user_id', 'rank', 'item_id', 'score'" in printed


@pytest.mark.system  # compiles the programs once more than tests/serve/test_export.py
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_the_export_command(folder, monkeypatch, capsys):
    from programs import run

    monkeypatch.chdir(folder)
    run("export", "--workdir=runs/mine", "--out=exported", "--json=figures.json")
    for name in (FEATURES, INDEX, ITEMS, REPORT, VOCABULARY, WEIGHTS):
        assert (folder / "exported" / name).exists() and f"`{name}`" in PAGE
    sys.path.insert(0, str(ROOT / "examples/serve"))
    try:
        import from_export

        assert from_export.main("exported") == 0
    finally:
        sys.path.pop(0)
    assert "the list of the report" in capsys.readouterr().out


def test_every_rule_is_described():
    for field in dataclasses.fields(ListRules):
        assert f"`{field.name}=" in PAGE, field.name


def test_files_that_are_named_exist():
    for path in re.findall(r"\b(?:negflax|docs|examples|tests)/[\w/]+\.\w+", PAGE):
        assert (ROOT / path).exists(), path
