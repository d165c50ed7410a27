import dataclasses

import jax
import numpy as np
import pyarrow as pa
import pytest

from negflax.config import ConfigError, MeshConfig
from negflax.data import DataError, build_histories
from negflax.evaluate import Queries
from negflax.evaluate.scorer import model_scorer
from negflax.mesh import make_mesh
from negflax.serve import ModelError, TrainedRecommender
from negflax.train.checkpoint import CheckpointError


def log(user_id, item_id, **columns):
    return pa.table(
        {"user_id": user_id, "item_id": item_id, "pos": list(range(len(user_id)))} | columns
    )


def random_log(seed=0, users=9, events=40):
    rng = np.random.default_rng(seed)
    return log(
        rng.integers(0, users, events),
        rng.integers(10, 22, events),
        timestamp_ms=np.arange(events) * 7000,
        dislike=pa.array(rng.random(events) < 0.4, mask=rng.random(events) < 0.3),
        dwell_ms=rng.integers(0, 3000, events),
    )


def lists(table):
    """user → [(item, score), …] in the order of the rows."""
    result = {}
    for row in table.to_pylist():
        result.setdefault(row["user_id"], []).append((row["item_id"], row["score"]))
    return result


def reference_scores(trained, events):
    """(users, scores (U, V)) through the scorer that evaluation uses."""
    histories = build_histories(events, trained.catalogue, "log")
    users = np.arange(len(histories.user_ids))
    queries = Queries(
        users,
        histories.offsets_U1[1:],
        np.zeros(len(users) + 1, np.int64),
        np.zeros(0, np.int32),
        np.zeros(0, bool),
    )
    history = trained.config.eval.history
    scorer = model_scorer(trained.model, trained.state, histories, trained.mesh, history)
    return histories.user_ids, np.asarray(scorer(queries))


def with_catalogue(trained, **changes):
    """The same parameters for a catalogue of other ids or titles."""
    catalogue = dataclasses.replace(trained.catalogue, **changes)
    return TrainedRecommender(dataclasses.replace(trained, catalogue=catalogue))


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_the_lists_are_the_best_items_by_the_scores_of_evaluation(
    recommender, trained, exclude_seen
):
    events = random_log()
    table, report = recommender.recommend(events, 4, exclude_seen=exclude_seen)
    assert table.schema.names == ["user_id", "rank", "item_id", "score"]
    assert table["rank"].to_pylist() == [1, 2, 3, 4] * 9
    assert (report["users"], report["events"], report["short_lists"]) == (9, 40, 0)
    found = lists(table)
    assert list(found) == sorted(found)
    for user, scores_V in zip(*reference_scores(trained, events), strict=True):
        seen = events.filter(pa.array(events["user_id"].to_numpy() == user))["item_id"].to_pylist()
        allowed = [
            row
            for row in range(1, trained.catalogue.num_rows)
            if not exclude_seen or trained.catalogue.item_ids[row - 1] not in seen
        ]
        best = sorted(allowed, key=lambda row: -scores_V[row])[:4]
        items, scores = zip(*found[user], strict=True)
        assert list(items) == trained.catalogue.item_ids[np.array(best) - 1].tolist()
        np.testing.assert_allclose(scores, scores_V[best], rtol=1e-4, atol=1e-6)


def test_feedback_on_the_history_changes_the_list(recommender):
    events = log([1, 1], [10, 11], dislike=[False, False])
    hated = log([1, 1], [10, 11], dislike=[False, True])
    silent = log([1, 1], [10, 11])
    scores = [lists(recommender.recommend(x, 10)[0])[1] for x in (events, hated, silent)]
    assert scores[0] != scores[1] != scores[2] != scores[0]


def test_other_users_and_block_sizes_change_nothing(recommender, trained):
    events = random_log(seed=1)
    together, _ = recommender.recommend(events, 5)
    small = TrainedRecommender(trained, history=5, users_at_a_time=2)
    alone = events.filter(pa.array(events["user_id"].to_numpy() == 3))
    for table in (small.recommend(events, 5)[0], recommender.recommend(alone, 5)[0]):
        for user, found in lists(table).items():
            items, scores = zip(*found, strict=True)
            expected_items, expected_scores = zip(*lists(together)[user], strict=True)
            assert items == expected_items
            np.testing.assert_allclose(scores, expected_scores, rtol=1e-4, atol=1e-6)


def test_unknown_items_are_counted_and_ignored(recommender):
    table, report = recommender.recommend(log([1, 2, 2, 3], [99, 10, 98, 97]), 3)
    assert (report["users"], report["users_without_history"]) == (3, 2)
    assert (report["events"], report["events_on_unknown_items"]) == (1, 3)
    found = lists(table)
    assert found[1] == found[3] != found[2]
    known, _ = recommender.recommend(log([2], [10]), 3)
    assert [item for item, _ in found[2]] == [item for item, _ in lists(known)[2]]


def test_unknown_items_alone_give_the_list_of_a_newcomer(recommender):
    table, report = recommender.recommend(log([1, 2], [98, 99]), 3)
    assert (report["users_without_history"], report["events"]) == (2, 0)
    beside, _ = recommender.recommend(log([1, 2, 3], [98, 99, 10]), 3)
    for user in (1, 2):
        assert [i for i, _ in lists(table)[user]] == [i for i, _ in lists(beside)[user]]


def test_ids_may_be_text_or_numbers(recommender, trained):
    numbers, _ = recommender.recommend(log([1, 1], [10, 11]), 3)
    as_text, report = recommender.recommend(log([1, 1, 1], ["10", "11", "new"]), 3)
    assert report["events_on_unknown_items"] == 1
    assert numbers["item_id"] == as_text["item_id"]
    text_run = with_catalogue(trained, item_ids=np.arange(10, 22).astype(str))
    table, _ = text_run.recommend(log(["u", "u"], [10, 11]), 3)
    assert table["item_id"].to_pylist() == [str(x) for x in numbers["item_id"].to_pylist()]
    assert table["user_id"].to_pylist() == ["u"] * 3


def test_lists_have_titles(trained):
    titles = np.array(["", *(f"film {i}" for i in range(10, 22))])
    table, _ = with_catalogue(trained, titles=titles).recommend(log([1], [10]), 3)
    assert table["title"].to_pylist() == [f"film {i}" for i in table["item_id"].to_pylist()]


def test_a_user_who_has_had_nearly_everything_gets_a_short_list(recommender):
    table, report = recommender.recommend(log([1] * 10 + [2], [*range(10, 20), 10]), 5)
    assert {user: len(found) for user, found in lists(table).items()} == {1: 2, 2: 5}
    assert report["short_lists"] == 1


@pytest.mark.parametrize("k", [0, 13])
def test_k_outside_the_catalogue(recommender, k):
    with pytest.raises(ConfigError, match=f"k = {k}: the catalogue has 12 items; ask for 1 to 12"):
        recommender.recommend(log([1], [10]), k)
    recommender.recommend(log([1], [10]), 12, exclude_seen=False)


def test_errors_name_the_log_file(recommender):
    with pytest.raises(DataError, match=r"mine.csv: column `dwell_ms`, row 1: -5 is negative"):
        recommender.recommend(log([1, 1], [10, 11], dwell_ms=[3, -5]), name="mine.csv")


@pytest.mark.parametrize(
    ("dense", "table", "words"),
    [
        (np.nan, 1, "step 0: .* hold NaN or infinity: the run has diverged; choose an earlier"),
        (1, np.nan, "step 0: table '.* has .* rows with NaN or infinity.* has diverged"),
    ],
)
def test_a_diverged_run_is_an_error_with_its_step(trained, dense, table, words):
    state = {
        "dense": jax.tree.map(lambda x: x * dense, trained.state["dense"]),
        "tables": jax.tree.map(lambda x: x.at[1:].multiply(table), trained.state["tables"]),
    }
    run = dataclasses.replace(trained, state=trained.state | state)
    with pytest.raises(ModelError, match=words):
        TrainedRecommender(run).recommend(log([1], [10]), 3)


def test_load_onto_any_number_of_devices(recommender, workdir):
    events = random_log(seed=2)
    expected = lists(recommender.recommend(events, 4)[0])
    for mesh in (None, make_mesh(MeshConfig(table=2), jax.devices()[:2])):
        loaded = TrainedRecommender.load(workdir, mesh=mesh, history=5)
        assert loaded.trained.step == 1  # the best of the two
        assert loaded.trained.mesh.size == (8 if mesh is None else 2)
        for user, found in lists(loaded.recommend(events, 4)[0]).items():
            items, scores = zip(*found, strict=True)
            expected_items, expected_scores = zip(*expected[user], strict=True)
            assert items == expected_items
            np.testing.assert_allclose(scores, expected_scores, rtol=1e-4, atol=1e-6)


def test_load_errors(workdir, tmp_path):
    assert TrainedRecommender.load(workdir, "latest").trained.step == 2
    with pytest.raises(CheckpointError, match=r"'newest' is not in .* one of \[1, 2\]"):
        TrainedRecommender.load(workdir, "newest")
    with pytest.raises(CheckpointError, match="--workdir must name the folder of a run"):
        TrainedRecommender.load(tmp_path)
