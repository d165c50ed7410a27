"""A log with vectors of its items: trained, listed, exported, and carried on with a new item."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import negflax
from negflax.config import ConfigError, event_log_defaults
from negflax.serve import TrainedRecommender, export
from negflax.train.restore import scored_tables

TOPICS, WIDTH = 4, 6


def log(items, seed):
    """Users who like one topic each; item i is of topic i mod TOPICS."""
    rng = np.random.default_rng(seed)
    events = 1_200
    user_E = rng.integers(0, 60, events)
    item_E = rng.integers(0, items, events)
    like_E = item_E % TOPICS == user_E % TOPICS
    return pa.table(
        {
            "user_id": user_E,
            "item_id": item_E,
            "timestamp_ms": np.arange(events) * 60_000,
            "like": like_E,
            "dislike": ~like_E & (rng.random(events) < 0.3),
        }
    )


def described(items, width=WIDTH):
    """Vectors of the topics, with some noise; the last item but one has none."""
    rng = np.random.default_rng(3)
    vectors = np.eye(TOPICS, width)[np.arange(items) % TOPICS]
    vectors = [*(vectors + 0.1 * rng.normal(size=vectors.shape)).tolist()]
    vectors[-2] = None
    return pa.table({"item_id": np.arange(items), "item_vector": vectors})


@pytest.fixture(scope="module")
def config():
    config = event_log_defaults()
    replace = dataclasses.replace
    return replace(
        config,
        data=replace(config.data, reserved_items=4),
        model=replace(config.model, embedding=8, hidden=8, composed=("vector",), encoder="gru"),
        train=replace(config.train, steps=30, eval_every=30, checkpoint_every=30),
    )


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "first"
    return negflax.fit(log(20, 0), config, workdir, items=described(20))


def composed(trained):
    """The item table as it is scored, and the given vectors projected."""
    rows = scored_tables(trained.model, trained.state)["item"]["rows"]
    given_VD = trained.catalogue.vector_VW @ np.asarray(trained.state["dense"]["item_vector"])
    return np.asarray(rows)[: len(given_VD)], given_VD


def test_lists_sessions_and_exports_agree(run, tmp_path):
    trained = run.trained
    whole_VD, given_VD = composed(trained)
    own_VD = np.asarray(trained.state["tables"]["item"]["rows"])[: len(given_VD)]
    width = given_VD.shape[1]
    assert np.abs(given_VD).max() > 0.01
    np.testing.assert_allclose(whole_VD[:, :width], own_VD[:, :width] + given_VD, atol=1e-5)

    events = log(20, 0).slice(0, 300)
    lists = run.recommend(events, k=5)
    mine = events.filter(pa.compute.equal(events["user_id"], 7))
    listed = lists.filter(pa.compute.equal(lists["user_id"], 7))["item_id"].to_pylist()
    session = run.session(7, events=mine)
    assert session.recommend(k=5)["item_id"].to_pylist() == listed
    again = negflax.load(run.workdir)
    assert again.recommend(events, k=5)["item_id"].to_pylist() == lists["item_id"].to_pylist()

    export.write_export(TrainedRecommender(trained, history=50), tmp_path / "out")
    vectors = np.array(pq.read_table(tmp_path / "out/items.parquet")["vector"].to_pylist())
    np.testing.assert_allclose(vectors, whole_VD[1:], atol=1e-5)


@pytest.mark.system  # trains twice more
def test_a_new_item_starts_where_its_vector_says(run, config, tmp_path):
    config = dataclasses.replace(
        config, train=dataclasses.replace(config.train, steps=1, eval_every=1, checkpoint_every=1)
    )
    day = negflax.fit(
        log(22, 1), config, tmp_path / "day", items=described(22), init_from=run.workdir
    )
    whole_VD, given_VD = composed(day.trained)
    new = day.trained.catalogue.rows([21])[0]
    same_topic = day.trained.catalogue.rows([1, 5, 9])
    assert new >= run.trained.catalogue.num_rows
    near = given_VD[same_topic] @ given_VD[new] / np.linalg.norm(given_VD[same_topic], axis=1)
    assert (near > 0.8 * np.linalg.norm(given_VD[new])).all()
    with pytest.raises((ConfigError, ValueError), match="vectors|item_vector"):
        negflax.fit(
            log(22, 1),
            config,
            tmp_path / "other",
            items=described(22, WIDTH + 1),
            init_from=run.workdir,
        )
