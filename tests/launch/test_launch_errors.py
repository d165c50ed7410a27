"""What a newcomer gets wrong, and what the programs answer."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from programs import run

from negflax.config import Config, ConfigError, DataConfig, LabelConfig
from negflax.data import DataError
from negflax.data.catalogue import build_catalogue
from negflax.train.checkpoint import CheckpointError, Checkpoints, write_config
from negflax.train.restore import CATALOGUE

# ml_collections loads config files in a way that Python 3.12 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

CONFIGS = Path(__file__).parents[2] / "configs"
EVENTS = pa.table(
    {
        "user_id": [1] * 5 + [2] * 5,
        "item_id": [*range(5)] * 2,
        "timestamp_ms": [*range(10)],
        "like": [True] * 10,
        "dislike": [False] * 10,
    }
)


@pytest.fixture
def events(tmp_path):
    pq.write_table(EVENTS, tmp_path / "events.parquet")
    return tmp_path / "events.parquet"


@pytest.fixture
def workdir(tmp_path):
    """A run of step 3, as far as the programs look before they stop."""
    folder, config = tmp_path / "run", Config(labels=LabelConfig(negative=()))
    write_config(folder, config)
    build_catalogue(EVENTS["item_id"].to_numpy()[:5], EVENTS, None).save(folder / CATALOGUE)
    checkpoints = Checkpoints(folder, config.train.metric)
    checkpoints.save(3, {"step": jnp.ones(())}, None)
    checkpoints.close()
    return folder


def train(events, workdir, *settings):
    run(
        "train",
        f"--config={CONFIGS / 'event_log.py'}",
        f"--config.data.path={events}",
        f"--workdir={workdir}",
        *settings,
    )


def test_a_misspelt_setting(events, tmp_path):
    with pytest.raises(AttributeError, match='Did you mean "omega" instead of "omga"'):
        train(events, tmp_path, "--config.loss.omga=1")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "loss.objective=nrt",
            "config.loss.objective = 'nrt': did you mean 'ntr'. choose from ntr, ssm",
        ),
        ("labels.positive=liked", "the log has no signal `liked`; it has: like, dislike"),
        ("labels.positive=like > many", "`like > many` is not a rule; write `signal` or"),
        ("data.test_from=2024-01-01", "2024-01-01' has no zone: append"),
    ],
)
def test_a_setting_that_cannot_be(events, tmp_path, setting, message):
    with pytest.raises(ConfigError, match=message):
        train(events, tmp_path, f"--config.{setting}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"item_id": None}, r"events.parquet: column `item_id` is missing; the file has user_id,"),
        ({"timestamp_ms": None}, "neither column `timestamp_ms` nor `pos`: add the event time"),
        ({"like": [2] * 10}, "column `like`, row 0: 2 is neither yes nor no; write 1 or 0"),
        ({"timestamp_ms": ["now"] * 10}, "column `timestamp_ms`, row 0: text 'now' in a number"),
        ({"timestamp_ms": [7] * 10}, "no event on a known item is in the split `train`"),
    ],
)
def test_a_log_that_cannot_be(tmp_path, changes, message):
    columns = {k: v for k, v in (EVENTS.to_pydict() | changes).items() if v is not None}
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DataError, match=message):
        train(path, tmp_path / "run")


def test_no_such_file(tmp_path):
    with pytest.raises(DataError, match="nothing.csv: there is no such file"):
        train(tmp_path / "nothing.csv", tmp_path / "run")


def test_the_folder_of_another_run(events, tmp_path):
    data = DataConfig(source="event_log", path=str(events))
    write_config(tmp_path / "run", dataclasses.replace(Config(), data=data))
    with pytest.raises(CheckpointError, match="holds a run with another config .*batch.rows"):
        train(events, tmp_path / "run")


@pytest.mark.parametrize("program", ["evaluate", "recommend"])
def test_no_run_there(program, events, tmp_path):
    extra = (f"--events={events}",) if program == "recommend" else ()
    with pytest.raises(CheckpointError, match="--workdir must name the folder of a run"):
        run(program, f"--workdir={tmp_path / 'none'}", *extra)


@pytest.mark.parametrize("program", ["evaluate", "recommend"])
def test_no_such_checkpoint(program, events, workdir):
    extra = (f"--events={events}",) if program == "recommend" else ()
    with pytest.raises(CheckpointError, match=r"'newest' is not in .*: choose latest, best or"):
        run(program, f"--workdir={workdir}", "--checkpoint=newest", *extra)


def test_on_the_terminal_it_is_one_line(tmp_path):
    command = [sys.executable, "-m", "launch.evaluate", f"--workdir={tmp_path / 'none'}"]
    done = subprocess.run(command, cwd=CONFIGS.parent, text=True, capture_output=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "CheckpointError" in done.stderr.splitlines()[-1]


def test_recommend_refuses_what_it_cannot_write(events, workdir):
    with pytest.raises(DataError, match=r"lists.txt: a .parquet or .csv file is expected"):
        run("recommend", f"--workdir={workdir}", f"--events={events}", "--out=lists.txt")
