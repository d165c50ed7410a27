"""The service of examples/serve/ on loopback: lists, feedback, bad input, reload, metrics."""

import dataclasses
import http.client
import json
import shutil
import sqlite3
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest
import uvicorn

from negflax.calibration import Calibration, parameters_fingerprint, write_calibration
from negflax.calibration.kind_terms import Scales
from negflax.config import Config, EvalConfig, MeshConfig, ModelConfig
from negflax.data import Catalogue
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.serve import ListRules, TrainedRecommender, list_rules
from negflax.train.checkpoint import Checkpoints, write_config
from negflax.train.restore import CATALOGUE
from negflax.train.step import Trainer

SERVE = Path(__file__).parents[2] / "examples/serve"
sys.path.insert(0, str(SERVE))
import app as service  # noqa: E402
import model as service_model  # noqa: E402
import store as service_store  # noqa: E402

CONFIG = Config(
    model=ModelConfig(hidden=6, embedding=6, feature_dim=3, features=("dislike", "gap")),
    eval=EvalConfig(history=8),
)


def write_run(folder, step, seed):
    """A run of random parameters."""
    catalogue = Catalogue(
        item_ids=np.arange(10, 30),
        creator_V=np.arange(21) % 4,
        clusters_VC=(np.arange(21) % 3)[:, None],
        train_count_V=np.ones(21, np.int64),
        titles=np.array(["", *(f"film {i}" for i in range(10, 30))]),
    )
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, seed=seed))
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    model = Recommender(config.model, catalogue)
    state = Trainer(config, model, catalogue.train_count_V, 1, mesh).init()
    write_config(folder, config)
    catalogue.save(folder / CATALOGUE)
    checkpoints = Checkpoints(folder, config.train.metric)
    checkpoints.save(step, state, {config.train.metric: 0.1})
    checkpoints.close()


class Server:
    """The service in a thread, on a free port."""

    def __init__(self, workdir, **settings):
        with mock.patch.multiple(service_model, BATCHES=(1, 32), SEEN=(16,)):
            # The first lists of a kind wait for the compiler.
            self.app = service.create_app(str(workdir), **{"timeout": 300.0} | settings)
        config = uvicorn.Config(self.app, port=0, log_level="critical")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]

    def close(self):
        self.server.should_exit = True
        self.thread.join()

    def ask(self, method, path, body=None, headers=None):
        """(status, parsed answer)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            text = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, text, headers or {"Content-Type": "application/json"})
            answer = connection.getresponse()
            data = answer.read().decode()
            kind = answer.headers.get("Content-Type", "")
            return answer.status, json.loads(data) if "json" in kind else data
        finally:
            connection.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, step, seed in (("first", 3, 0), ("second", 5, 1)):
        (folder / name).mkdir()
        write_run(folder / name, step, seed)
    (folder / "best").symlink_to("first")
    return folder


@pytest.fixture(scope="module")
def server(runs):
    found = Server(runs / "first")
    yield found
    found.close()


def items(answer):
    return [item["item_id"] for item in answer["items"]]


def test_the_lists_are_those_of_sessions_and_feedback_changes_them(server, runs):
    session = TrainedRecommender.load(runs / "first").session("u")
    for event in ({"item_id": 10, "dislike": True}, {"item_id": 12, "like": True}):
        status, answer = server.ask("POST", "/recommend", {"user_id": "u", "k": 5})
        assert status == 200 and answer["step"] == 3
        expected = session.recommend(5)
        assert items(answer) == expected["item_id"].to_pylist()
        assert answer["items"][0]["title"] == f"film {items(answer)[0]}"
        before = [item["score"] for item in answer["items"]]
        status, answer = server.ask("POST", "/feedback", {"user_id": "u", **event})
        session.add(event)
        assert (status, answer) == (200, {"known": True, "events": session.events})
    status, answer = server.ask("POST", "/recommend", {"user_id": "u", "k": 5})
    assert [item["score"] for item in answer["items"]] != before
    assert not {10, 12} & set(items(answer))
    asked = {"user_id": "u", "k": 5, "explain": True, "block_creators": True, "exclude": [11]}
    status, answer = server.ask("POST", "/recommend", asked)
    reasons = {item["reason"] for item in answer["items"] if item["rank"] is None}
    assert reasons <= {list_rules.SEEN, list_rules.EXCLUDED, list_rules.CREATOR} and reasons
    assert all(item["reason"] is None for item in answer["items"] if item["rank"])
    assert all(0 < item["p"] < 1 for item in answer["items"])
    assert server.ask("POST", "/feedback", {"user_id": "u", "item_id": "new"}) == (
        200,
        {"known": False, "events": 2},
    )


@pytest.mark.parametrize(
    "path, body, field",
    [
        ("/recommend", {"user_id": 1, "k": 0}, "k"),
        ("/recommend", {"user_id": 1, "k": 21}, "k"),
        ("/recommend", {"user_id": 1, "k": 10**9}, "k"),
        ("/recommend", {"user_id": 1, "k": "5"}, "k"),
        ("/recommend", {"user_id": 1, "exclude": list(range(2_000))}, "exclude"),
        ("/recommend", {"user_id": 1, "aversion": 2}, "aversion"),
        ("/recommend", {"user_id": 1, "recent": 1_000}, "recent"),
        ("/recommend", {"user_id": None}, "user_id"),
        ("/recommend", {"user_id": "x" * 300}, "user_id"),
        ("/recommend", {"user_id": 1, "kk": 3}, "kk"),
        ("/recommend", {}, "user_id"),
        ("/feedback", {"user_id": 1}, "item_id"),
        ("/feedback", {"user_id": 1, "item_id": 2**70}, "item_id"),
        ("/feedback", {"user_id": 1, "item_id": 10, "dislike": "yes"}, "dislike"),
        ("/feedback", {"user_id": 1, "item_id": 10, "dwell_ms": -1}, "dwell_ms"),
        ("/feedback", b'{"user_id": 1, "item_id": 10, "dwell_ms": NaN}', "dwell_ms"),
        ("/feedback", b"\x80\x04K\x01.", "body"),
        ("/feedback", b"[]", "body"),
    ],
)
def test_bad_input_is_refused_by_its_field(server, path, body, field):
    status, answer = server.ask("POST", path, body)
    assert status in (400, 422) and answer["message"], answer
    assert answer["field"] == field
    assert server.ask("GET", "/health")[0] == 200


def test_large_bodies_unknown_paths_and_methods(server):
    large = b'{"user_id": "' + b"x" * 100_000 + b'"}'
    status, answer = server.ask("POST", "/recommend", large)
    assert (status, answer["field"]) == (413, "body")
    assert server.ask("GET", "/nothing")[0] == 404
    assert server.ask("GET", "/recommend")[0] == 405
    assert server.ask("GET", "/health")[1] | {"model": ""} == {
        "status": "ok",
        "step": 3,
        "model": "",
        "items": 20,
    }


def test_interface_metrics_and_page(server):
    server.ask("POST", "/recommend", {"user_id": 5, "k": 3})
    status, said = server.ask("GET", "/openapi.json")
    assert status == 200 and set(said["paths"]) == {
        "/recommend",
        "/feedback",
        "/health",
        "/metrics",
    }
    status, text = server.ask("GET", "/metrics")
    assert 'requests_total{path="/recommend",status="200"}' in text
    assert "model_step 3.0" in text
    status, page = server.ask("GET", "/")
    assert status == 200 and "<title>negflax" in page


def test_requests_beyond_the_queue_get_a_503(server):
    batcher = server.app.state.batcher
    with mock.patch.object(batcher, "_longest", 0):
        status, answer = server.ask("POST", "/recommend", {"user_id": 1})
    assert status == 503 and "try again" in answer["message"]
    assert server.ask("POST", "/recommend", {"user_id": 1})[0] == 200


@pytest.mark.parametrize("kept_in", [pytest.param("memory", marks=pytest.mark.system), "sqlite"])
def test_a_promoted_checkpoint_takes_over_and_no_request_is_dropped(runs, tmp_path, kept_in):
    best, path = tmp_path / "best", str(tmp_path / "users.sqlite") if kept_in == "sqlite" else ""
    best.symlink_to(runs / "first")
    server = Server(best, store_path=path, lengths=(5,), poll=0.05)
    event = {"user_id": 1, "item_id": 11, "dislike": True}
    assert server.ask("POST", "/feedback", event)[0] == 200
    found, stop = [], threading.Event()

    def work(user):
        while not stop.is_set():
            status, answer = server.ask("POST", "/recommend", {"user_id": user, "k": 5})
            found.append((user, status, answer.get("step"), tuple(items(answer))))

    threads = [threading.Thread(target=work, args=(user,)) for user in (1, 2)]
    for thread in threads:
        thread.start()
    try:
        (tmp_path / "new").symlink_to(runs / "second")
        (tmp_path / "new").replace(best)
        deadline = time.monotonic() + 240
        while not any(step == 5 for _, _, step, _ in found) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {status for _, status, _, _ in found} == {200}
    assert {step for _, _, step, _ in found} == {3, 5}
    session = TrainedRecommender.load(runs / "second").session(1)
    session.add({"item_id": 11, "dislike": True})
    after = {listed for user, _, step, listed in found if user == 1 and step == 5}
    assert after <= {tuple(session.recommend(5)["item_id"].to_pylist())}
    server.close()
    if path:
        again = Server(best, store_path=path, lengths=(5,))
        answer = again.ask("POST", "/recommend", {"user_id": 1, "k": 5})[1]
        assert items(answer) == session.recommend(5)["item_id"].to_pylist()
        again.close()


def test_a_checkpoint_that_cannot_be_read_leaves_the_old_one_in_service(runs, tmp_path):
    best = tmp_path / "best"
    best.symlink_to(runs / "first")
    with mock.patch.multiple(service_model, BATCHES=(1,), SEEN=(16,)):
        model = service_model.Model(str(best), (5,))
        shutil.copytree(runs / "second", tmp_path / "half")
        (tmp_path / "half" / "catalogue.npz").write_bytes(b"half")
        best.unlink()
        best.symlink_to(tmp_path / "half")
        assert not model.reload_if_promoted()
        assert (model.now.step, model.failed_reloads) == (3, 1)
        best.unlink()
        best.symlink_to(runs / "second")
        assert model.reload_if_promoted() and model.now.step == 5
        assert not model.reload_if_promoted()


def test_a_calibration_written_later_takes_over(runs, tmp_path):
    shutil.copytree(runs / "first", tmp_path / "run")
    event = {"item_id": 11, "dislike": True}
    with mock.patch.multiple(service_model, BATCHES=(1,), SEEN=(16,)):
        model = service_model.Model(str(tmp_path / "run"), (5,))
        before = model.session(model.now, "1", None)
        before.add(event)
        kept = before.to_bytes(), [event]
        values = {"cluster": {"dislike": -50.0}}  # no more of a kind that was disliked
        found = Calibration(
            parameters_fingerprint(model.now.recommender.trained), Scales(3, 5.0, 0.9), values
        )
        write_calibration(tmp_path / "run", found)
        assert model.reload_if_promoted() and not model.reload_if_promoted()
    kinds = model.now.recommender.trained.catalogue.clusters_VC[:, 0]
    for state in (kept[0], b"NGFLSESS\x01\x00" + kept[0][10:], b"", None):
        session = model.session(model.now, "1", (state, [event]))
        (listed,) = service_model.lists(
            service_model.Query(model.now, 5, ListRules(), False), [session]
        )
        assert session.events == 1
        assert not any(kinds[item["item_id"] - 9] == kinds[11 - 9] for item in listed)
    again = model.session(model.now, "1", (session.to_bytes(), []))  # of this model: no event read
    assert again.recommend(5).equals(session.recommend(5))


def test_a_store_that_is_none(tmp_path):
    (tmp_path / "users.sqlite").write_bytes(b"no database" * 100)
    for path in (tmp_path / "users.sqlite", tmp_path / "missing" / "users.sqlite"):
        with pytest.raises(service_store.StoreError, match="name another one"):
            service_store.open_store(str(path))


def test_redis_keeps_users():
    fakeredis = pytest.importorskip("fakeredis", reason="runs where fakeredis is installed")
    redis = pytest.importorskip("redis", reason="runs where negflax[redis] is installed")
    server = fakeredis.FakeServer()
    connect = mock.Mock(side_effect=lambda *_, **__: fakeredis.FakeRedis(server=server))
    with mock.patch.object(redis.Redis, "from_url", connect):
        store = service_store.open_store("redis://localhost")
        assert store.get("a") is None
        events = [{"item_id": i, "dislike": True} for i in range(500)]
        store.put("a", b"\x00state\xff", events)
        again = service_store.open_store("redis://localhost")
        assert again.get("a") == (b"\x00state\xff", events[-service_store.KEPT_EVENTS :])
        server.connected = False
        with pytest.raises(service_store.FAILURES):
            store.get("a")
        with pytest.raises(service_store.StoreError, match="redis://localhost: .*another one"):
            service_store.open_store("redis://localhost")


def test_redis_that_is_not_installed():
    with mock.patch.object(service_store, "redis", None):
        with pytest.raises(service_store.StoreError, match=r"pip install 'negflax\[redis\]'"):
            service_store.open_store("redis://localhost")


def test_a_store_that_fails_in_service_is_a_503(server):
    broken = mock.Mock(side_effect=sqlite3.OperationalError("disk is full"))
    with mock.patch.object(service_store.MemoryStore, "get", broken):
        for path, body in (("/recommend", {}), ("/feedback", {"item_id": 10})):
            status, answer = server.ask("POST", path, {"user_id": "b"} | body)
            assert status == 503 and "the store" in answer["message"]
    assert server.ask("POST", "/recommend", {"user_id": "b"})[0] == 200


def test_memory_evicts_the_least_recently_used_users():
    kept = service_store.MemoryStore(users=2)
    for user in ("a", "b"):
        kept.put(user, b"", [])
    kept.get("a")
    kept.put("c", b"1", [{"item_id": i} for i in range(500)])
    assert kept.get("b") is None and kept.get("a") is not None
    state, events = kept.get("c")
    assert state == b"1" and len(events) == service_store.KEPT_EVENTS
    assert events[-1] == {"item_id": 499}
