"""The front door: `import negflax` is cheap, `fit` takes data in any form, and a Run answers."""

import dataclasses
import json
import random
import subprocess
import sys

import pyarrow as pa
import pyarrow.csv
import pytest

import negflax
from negflax.config import ConfigError, event_log_defaults
from negflax.data import DataError
from negflax.evaluate import EvaluationError
from negflax.train.checkpoint import CheckpointError

TOPICS, ITEMS = 5, 60


def log(users=60, events=20):
    """People who each love one topic and hate another."""
    draw, rows = random.Random(0), []
    for user in range(users):
        loved, hated = draw.sample(range(TOPICS), 2)
        for minute in sorted(draw.sample(range(30 * 24 * 60), events)):
            topic = draw.choice([loved, loved, hated, draw.randrange(TOPICS)])
            item = TOPICS * draw.randrange(ITEMS // TOPICS) + topic
            rows.append(
                {
                    "user_id": f"u{user}",
                    "item_id": f"v{item}",
                    "timestamp_ms": 1_700_000_000_000 + minute * 60_000,
                    "like": topic == loved,
                    "dislike": topic == hated,
                }
            )
    return pa.Table.from_pylist(rows)


class Frame:
    """A data frame of another library, as Arrow sees it."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


def small(**sections):
    """A config that trains for a few steps."""
    changes = {
        "batch": {"rows": 8, "length": 10},
        "model": {"hidden": 8, "embedding": 8},
        "loss": {"positives_only_steps": 2, "ramp_steps": 1},
        "optimizer": {"warmup_steps": 1},
        "train": {"steps": 6, "eval_every": 3, "checkpoint_every": 3},
        "eval": {"ks": (5,), "history": 10, "bootstrap": 20},
    }
    changes["train"]["metric"] = "ndcg_p@5"
    config = event_log_defaults()
    for section, values in sections.items():
        changes[section] = changes.get(section, {}) | values
    parts = {k: dataclasses.replace(getattr(config, k), **v) for k, v in changes.items()}
    return dataclasses.replace(config, **parts)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return negflax.fit(Frame(log()), small(), tmp_path_factory.mktemp("run") / "mine")


def test_the_import_is_cheap_and_the_names_are_there():
    code = (
        "import sys, negflax; assert not {'jax', 'numpy', 'pyarrow'} & set(sys.modules);"
        "assert set(negflax.__all__) <= set(dir(negflax));"
        "import negflax.fitting, negflax.run;"
        "[getattr(negflax, name) for name in negflax.__all__]; assert callable(negflax.fit)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'fti'"):
        negflax.fti  # noqa: B018


def test_a_run_has_its_files_and_figures(run):
    for name in ("config.json", "results.json", "data_report.json", "report.html"):
        assert (run.workdir / name).exists(), name
    assert run.metrics == json.loads((run.workdir / "results.json").read_text())
    assert 0 <= run.metrics["ndcg_p@5"] <= 1
    assert run.config.data.path.startswith(str(run.workdir.resolve()))
    assert run.catalogue.num_rows == ITEMS + 1


def test_lists_are_the_same_for_every_form_of_the_events(run, tmp_path):
    table = log(users=7)
    pyarrow.csv.write_csv(table, tmp_path / "events.csv")
    lists = run.recommend(table, k=3)
    assert lists.column_names == ["user_id", "rank", "item_id", "score"]
    assert lists.num_rows == 7 * 3
    assert lists == run.recommend(Frame(table), k=3) == run.recommend(tmp_path / "events.csv", k=3)


def test_a_loaded_run_gives_the_same_lists(run):
    loaded = negflax.load(run.workdir)
    assert loaded.recommend(log(), k=3) == run.recommend(log(), k=3)
    figures = loaded.evaluate("test")
    assert figures["ndcg_p@5"] == pytest.approx(run.metrics["ndcg_p@5"])
    assert loaded.metrics == run.metrics


def test_no_such_run(tmp_path):
    with pytest.raises(CheckpointError, match="must name the folder of a run"):
        negflax.load(tmp_path)


@pytest.mark.parametrize(
    ("section", "setting"),
    [
        ("batch", {"rows": -3}),
        ("batch", {"rows": 7}),  # does not divide among the devices
        ("loss", {"objective": "nrt"}),
        ("loss", {"label_smoothing": 0.1, "exclude_seen": True}),  # scores of seen items would grow
        ("model", {"features": ("dislike", "dislike")}),
        ("train", {"metric": "ndgc@5"}),
        ("eval", {"ks": (5, 10_000)}),  # longer than the catalogue
        ("model", {"dtype": "float64"}),  # without JAX's 64-bit mode
        ("model", {"composed": ("vector",)}),  # without an item table
    ],
)
def test_an_invalid_config_leaves_the_folder_unchanged(tmp_path, section, setting):
    folder = tmp_path / "run"
    with pytest.raises(ConfigError, match=f"config.{section}.{next(iter(setting))}"):
        negflax.fit(log(), small(**{section: setting}), folder)
    if section == "eval" or setting.keys() & {"dtype", "composed"}:  # known with the data
        assert {path.name for path in folder.iterdir()} <= {"data", "compilation_cache"}
    else:
        assert not folder.exists()
    if "composed" in setting:  # one of them, as it takes seconds: the corrected config is accepted
        assert negflax.fit(log(), small(), folder, test=False).metrics["step"] == 6


def test_a_test_period_without_labels_is_refused_before_training(tmp_path):
    rows = log(users=12).sort_by("timestamp_ms").to_pylist()
    for row in rows[int(0.85 * len(rows)) :]:
        row |= {"like": False, "dislike": False}
    table, config = pa.Table.from_pylist(rows), small(data={"min_item_events": 1})
    with pytest.raises(EvaluationError, match="no event of the test period has a label"):
        negflax.fit(table, config, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
    assert negflax.fit(table, config, tmp_path / "run", test=False).metrics["step"] == 6


def test_data_of_an_unknown_type(tmp_path):
    with pytest.raises(DataError, match="data is a dict: give a path, a pyarrow.Table or a data"):
        negflax.fit({"user_id": [1]}, small(), tmp_path / "run")
    with pytest.raises(ConfigError, match="needs data"):
        negflax.fit()
    assert not list(tmp_path.iterdir())


def test_another_table_is_another_run(run):
    with pytest.raises(CheckpointError, match="another config .data.path: .*: use another"):
        negflax.fit(log(users=50), small(), run.workdir)
