"""The correction is the same in evaluation, lists, sessions, top-K and their probabilities."""

import dataclasses

import jax
import numpy as np
import pyarrow as pa
import pytest
from small_run import log, untrained

from negflax.calibration import load_calibrated, write_calibration
from negflax.calibration.kind_counts import kind_of_items
from negflax.calibration.kind_shift import Shift
from negflax.config import MeshConfig
from negflax.evaluate.protocol import Queries
from negflax.evaluate.scorer import model_scorer
from negflax.mesh import make_mesh
from negflax.serve import TrainedRecommender
from negflax.serve.topk import BLOCK, CHUNK, top_k_function
from negflax.train.checkpoint import Checkpoints, write_config
from negflax.train.restore import CATALOGUE

K = 12


def scores_of(trained, sequences, user_R):
    queries = Queries.of_users(user_R, sequences.offsets_U1[user_R + 1])
    scorer = model_scorer(
        trained.model, trained.state, sequences, trained.mesh, 50, trained.calibration
    )
    return np.asarray(scorer(queries))


@pytest.fixture(scope="module")
def recommender(calibrated):
    return TrainedRecommender(calibrated, history=50, users_at_a_time=8)


def test_evaluation_adds_the_correction(calibrated, sequences):
    user_R = np.arange(6)
    plain = dataclasses.replace(calibrated, calibration=None)
    added = scores_of(calibrated, sequences, user_R) - scores_of(plain, sequences, user_R)
    assert np.abs(added).max() > 0.1
    for user in user_R:
        events = slice(*sequences.offsets_U1[user : user + 2])
        met = [
            np.isin(kind_V, kind_V[sequences.item_E[events]])
            for kind_V in (kind_of_items(sequences.catalogue, k) for k in ("cluster", "creator"))
        ]
        assert not added[user, ~met[0] & ~met[1]].any()  # nothing is said of what was never met


def test_lists_and_sessions_are_those_of_evaluation(calibrated, sequences, recommender):
    table = log()
    lists, _ = recommender.recommend(table, K, exclude_seen=False)
    score_RV = scores_of(calibrated, sequences, np.arange(24))
    for user in range(24):
        mine = lists.filter(pa.compute.equal(lists["user_id"], user))
        rows = sequences.catalogue.rows(np.array(mine["item_id"]))
        expected = 1 + np.argsort(-score_RV[user, 1:], kind="stable")[:K]
        assert rows.tolist() == expected.tolist()
        assert np.allclose(mine["score"], score_RV[user, expected], atol=1e-4)
    for user in (3, 4):
        session = recommender.session()
        for event in table.filter(pa.compute.equal(table["user_id"], user)).to_pylist():
            session.add(event)
        whole = recommender.session(user, events=table)
        again = recommender.session(state=session.to_bytes())
        mine = lists.filter(pa.compute.equal(lists["user_id"], user))["item_id"].to_pylist()
        for one in (session, whole, again):
            found = one.recommend(K, exclude_seen=False, explain=True)
            assert found["item_id"].to_pylist() == mine
        normaliser = np.log(np.exp(score_RV[user, 1:].astype(np.float64)).sum())
        p = np.exp(score_RV[user, 1:].max() - normaliser)
        assert found["p"].to_pylist()[0] == pytest.approx(p, rel=1e-3)


def test_rules_that_look_further_use_it_too(recommender):
    lists, _ = recommender.recommend(log(), 8, exclude_seen=False, cap_per_creator=60)
    plain, _ = recommender.recommend(log(), 8, exclude_seen=False)
    assert lists["item_id"].to_pylist() == plain["item_id"].to_pylist()


def test_an_event_changes_no_list_that_was_asked_before(recommender):
    session = recommender.session()
    session.add({"item_id": 100, "dislike": True})
    _, user = session.now()
    before = user.counts.arrays()["cluster"].copy()
    session.add({"item_id": 100, "dislike": True})
    assert np.array_equal(user.counts.arrays()["cluster"], before)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("rows", [500, 2 * CHUNK + 3 * BLOCK + 5])
def test_top_k_adds_it_tile_by_tile(devices, rows):
    mesh, rng = make_mesh(MeshConfig(), jax.devices()[:devices]), np.random.default_rng(rows)
    padded, users, kinds = -(-rows // devices) * devices, 5, 9
    table_VD = rng.normal(size=(padded, 8)).astype(np.float32)
    query_RD = rng.normal(size=(users, 8)).astype(np.float32)
    shifts, score_RV = [], query_RD.astype(np.float64) @ table_VD.T
    for _ in range(2):
        kind_V = rng.integers(0, kinds, padded).astype(np.int32)
        slot_K = rng.permutation(kinds).astype(np.int32)
        bias_GR = rng.normal(size=(16, users)).astype(np.float32)
        shifts.append((kind_V, Shift(slot_K, bias_GR)))
        score_RV += bias_GR[slot_K[kind_V]].T
    excluded_RH = rng.integers(1, rows, (users, 16)).astype(np.int32)
    np.put_along_axis(score_RV, excluded_RH, -np.inf, axis=1)
    score_RV[:, 0] = score_RV[:, rows:] = -np.inf
    search = top_k_function(mesh, rows, K, kinds=2)
    row_RK, found_RK = jax.device_get(search(query_RD, table_VD, excluded_RH, tuple(shifts)))
    expected_RK = np.argsort(-score_RV, axis=1, kind="stable")[:, :K]
    assert np.array_equal(row_RK, expected_RK)
    assert np.allclose(found_RK, np.take_along_axis(score_RV, expected_RK, 1), atol=1e-4)


def test_only_the_checkpoint_that_it_was_fitted_on_has_it(calibrated, tmp_path, caplog):
    mesh = calibrated.mesh
    write_config(tmp_path, calibrated.config)
    calibrated.catalogue.save(tmp_path / CATALOGUE)
    checkpoints = Checkpoints(tmp_path, calibrated.config.train.metric)
    other = untrained(calibrated.catalogue, seed=1)
    checkpoints.save(1, calibrated.state, {calibrated.config.train.metric: 0.2})
    checkpoints.save(2, other.state, {calibrated.config.train.metric: 0.1})
    checkpoints.close()
    assert load_calibrated(tmp_path, "best", mesh).calibration is None
    write_calibration(tmp_path, calibrated.calibration)
    assert load_calibrated(tmp_path, "best", mesh).calibration == calibrated.calibration
    assert load_calibrated(tmp_path, "best", mesh, calibrated=False).calibration is None
    assert load_calibrated(tmp_path, "latest", mesh).calibration is None
    assert "belongs to another checkpoint" in caplog.text
