"""Lists at the time of a request are the same in evaluation, `recommend` and a session."""

import dataclasses

import jax
import numpy as np
import pyarrow as pa
import pytest

from negflax.config import ConfigError
from negflax.data.batches import DELAY_MS
from negflax.data.tabular import read_histories
from negflax.evaluate.protocol import Queries
from negflax.evaluate.scorer import model_scorer
from negflax.model import Recommender
from negflax.serve import TrainedRecommender
from negflax.serve.export import write_export
from negflax.train.step import Trainer

START, HOUR = 1_700_000_000_000, 3_600_000


@pytest.fixture(scope="module")
def timed(trained):
    """The run with all request features, and random parameters for them."""
    model_config = dataclasses.replace(trained.config.model, request=("gap", "hour", "weekday"))
    config = dataclasses.replace(trained.config, model=model_config)
    model = Recommender(config.model, trained.catalogue)
    trainer = Trainer(config, model, trained.catalogue.train_count_V, 1, trained.mesh)
    state = trainer.init()
    rng = np.random.default_rng(1)
    dense = state["dense"]
    dense["request_time"] = jax.tree.map(
        lambda x: jax.numpy.asarray(rng.normal(size=x.shape), x.dtype), dense["request_time"]
    )
    again = dataclasses.replace(trained, config=config, model=model, state=state)
    return TrainedRecommender(again, history=5, users_at_a_time=4)


def log_of(times):
    return pa.table(
        {
            "user_id": [7] * len(times),
            "item_id": [10 + i for i in range(len(times))],
            "timestamp_ms": times,
        }
    )


def scores(table):
    return dict(zip(table["item_id"].to_pylist(), table["score"].to_pylist(), strict=True))


def test_a_session_a_log_and_evaluation_agree(timed):
    times = [START, START + 5_000, START + 26 * HOUR]
    log, at = log_of(times[:2]), times[2]
    by_log = scores(timed.recommend(log, 8, at=at)[0])
    session = timed.session(7)
    for row in log.to_pylist():
        session.add({k: v for k, v in row.items() if k != "user_id"})
    by_session = scores(session.recommend(8, at=at))
    assert by_session == pytest.approx(by_log, abs=1e-4)
    restored = timed.session(state=session.to_bytes())
    assert scores(restored.recommend(8, at=at)) == by_session

    whole = read_histories(log_of(times), timed.trained.config, timed.trained.catalogue)
    trained = timed.trained
    scorer = model_scorer(trained.model, trained.state, whole, trained.mesh, 5)
    found = np.asarray(scorer(Queries.of_users(np.array([0]), np.array([2]))))[0]
    for item, score in by_log.items():
        row = int(trained.catalogue.rows(np.array([item]))[0])
        assert found[row] == pytest.approx(score, abs=1e-4)


def test_the_time_matters_and_has_a_default(timed):
    log = log_of([START, START + 5_000])
    by_default = scores(timed.recommend(log, 8)[0])
    assert by_default == scores(timed.recommend(log, 8, at=START + 5_000 + DELAY_MS)[0])
    assert by_default != scores(timed.recommend(log, 8, at=START + 50 * HOUR)[0])
    session = timed.session(7, events=log)
    assert scores(session.recommend(8)) == pytest.approx(by_default, abs=1e-4)


def test_no_export_without_the_time(timed, tmp_path):
    with pytest.raises(ConfigError, match=r"config\.model\.request"):
        write_export(timed, tmp_path)
