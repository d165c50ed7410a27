"""Two processes with a device each are one process with two: to the bit, by the same files."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from process_group import finished, results, same_bits, train_arguments
from programs import run

# ml_collections loads config files in a way that Python 3.12 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@pytest.fixture
def events(tmp_path):
    """A small log, as to simulate one takes longer than to train."""
    random, number = np.random.default_rng(0), 1200
    like = random.random(number) < 0.5
    table = {
        "user_id": np.repeat(np.arange(60), 20),
        "item_id": random.integers(0, 40, number),
        "timestamp_ms": random.permutation(number),
        "like": like,
        "dislike": ~like & (random.random(number) < 0.5),
    }
    pq.write_table(pa.table(table), tmp_path / "events.parquet")
    return tmp_path / "events.parquet"


def test_two_processes_train_validate_and_evaluate_as_one(tmp_path, events):
    settings = {"config": "event_log", "data__path": events, "model__encoder": "gru"}
    two, one = tmp_path / "two", tmp_path / "one"
    text = finished(tmp_path / "logs", *train_arguments(two, **settings))
    assert "valid 20/20" in text and "targets per CPU second" in text
    run("train", *train_arguments(one, **settings), devices=2)
    assert results(two) == results(one)
    assert same_bits(two, one)
    lines = [(folder / "metrics.jsonl").read_text() for folder in (two, one)]
    assert lines[0] == lines[1] and lines[0]
