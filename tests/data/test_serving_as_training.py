"""In training = in serving: one log, however it is written, is one history and one list."""

import dataclasses
import tempfile
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pytest
from equivalent_logs import at_path, logs, rewritten, ways, write, written
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.config import Config, DataConfig, EvalConfig, LabelConfig, MeshConfig, ModelConfig
from negflax.data import open_sequences
from negflax.data.tabular import read_histories
from negflax.evaluate import Queries
from negflax.evaluate.scorer import model_scorer
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.serve import TrainedRecommender
from negflax.train.restore import Trained
from negflax.train.step import Trainer

K = 4
CONFIG = Config(
    data=DataConfig(source="event_log", path="?", split="leave_one_out"),
    labels=LabelConfig(("bought", 'event == "purchase"'), ("returned", "dislike")),
    model=ModelConfig(hidden=4, embedding=4, feature_dim=2, features=("dislike", "gap")),
    eval=EvalConfig(history=6, users_per_block=8, ks=(K,)),
)
FEATURES = ("item_E", "time_E", "gap_E", "dislike_E", "dwell_E", "surface_E")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(a run with random parameters, its log, its sequences)."""
    folder, table = tmp_path_factory.mktemp("log"), logs(0)
    write(table, folder / "log", "parquet")
    config = at_path(CONFIG, folder / "log.parquet")
    sequences = open_sequences(config, folder / "run")
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    model = Recommender(config.model, sequences.catalogue)
    trainer = Trainer(config, model, sequences.catalogue.train_count_V, 1, mesh)
    trained = Trained(config, sequences.catalogue, model, trainer.init(), 0, mesh)
    return trained, table, sequences


@given(ways, st.booleans())
@settings(max_examples=15, deadline=None)
def test_histories_and_lists_are_those_of_evaluation(run, way, as_table):
    trained, log, sequences = run
    with tempfile.TemporaryDirectory() as folder:
        written(log, way, Path(folder))
        data = rewritten(log, way) if as_table else folder
        histories = read_histories(data, trained.config, trained.catalogue)
        np.testing.assert_array_equal(histories.offsets_U1, sequences.offsets_U1)
        for name in FEATURES:
            np.testing.assert_array_equal(getattr(histories, name), getattr(sequences, name), name)
        recommender = TrainedRecommender(trained, history=trained.config.eval.history)
        lists, _ = recommender.recommend(data, K, exclude_seen=False)
    users = np.arange(len(sequences.user_ids))
    scorer = model_scorer(trained.model, trained.state, sequences, trained.mesh, 6)
    scores_UV = np.asarray(scorer(Queries.of_users(users, sequences.offsets_U1[1:])))
    best_UK = np.argsort(-scores_UV[:, 1:], axis=1)[:, :K]
    assert lists["item_id"].to_pylist() == trained.catalogue.item_ids[best_UK].ravel().tolist()
    assert [int(u) for u in lists["user_id"].to_pylist()] == np.repeat(users, K).tolist()


def test_two_kinds_of_events_at_one_time_are_two_in_serving_too(run):
    trained = run[0]
    table = pa.table(
        {"user_id": [1, 1], "item_id": [2, 2], "timestamp_ms": [5, 5], "event": ["view", "buy"]}
    )
    assert len(read_histories(table, trained.config, trained.catalogue).item_E) == 2
    silent = dataclasses.replace(trained.config, labels=LabelConfig(("bought",), ()))
    assert len(read_histories(table, silent, trained.catalogue).item_E) == 1


def test_columns_of_the_run_are_renamed_where_they_are_there(run, tmp_path):
    trained = run[0]
    data = dataclasses.replace(
        trained.config.data, columns=("item_id=sku", "timestamp_ms=at:s", "bought=paid")
    )
    config = dataclasses.replace(trained.config, data=data)
    table = pa.table({"user_id": [1, 1], "sku": [3, 2], "at": [50, 40]})
    write(table, tmp_path / "log", "csv")
    ours = table.rename_columns(["user_id", "item_id", "timestamp_ms"])
    for source, times in ((table, [40_000, 50_000]), (tmp_path / "log.CSV", [40_000, 50_000])):
        found = read_histories(source, config, trained.catalogue)
        assert trained.catalogue.ids(found.item_E).tolist() == [2, 3]
        assert found.time_E.tolist() == times
    assert read_histories(ours, config, trained.catalogue).time_E.tolist() == [40, 50]
