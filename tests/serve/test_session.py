import dataclasses
import json
import threading
from unittest import mock

import jax
import numpy as np
import pyarrow as pa
import pytest
from flax import nnx

from negflax.config import ConfigError, MeshConfig
from negflax.data import DataError
from negflax.mesh import make_mesh
from negflax.model import Recommender, encoders
from negflax.serve import EventError, StateError, TrainedRecommender
from negflax.serve.one_event import encode_event
from negflax.serve.session_bytes import MAGIC, VERSION
from negflax.train.step import Trainer

BUILT_IN = ["gru", "gru_memory", "lstm", "cfn", "rglru", "attention"]
# One of each way to go on, or not; the others take long to compile.
OTHERS = ("lstm", "cfn", "rglru", "attention")
LONG = [pytest.param(name, marks=pytest.mark.system) for name in OTHERS]
ENCODERS = ["gru", "gru_memory", "newest", "forgetful", *LONG]


class Newest(nnx.Module):
    """Reads the two newest events, and carries nothing: it cannot go on from a state."""

    def __init__(self, config, feature_sizes, *, rngs):
        shape = (feature_sizes["dislike"], config.embedding)
        self.dislike = nnx.Param(jax.random.normal(rngs.params(), shape, config.dtype))

    def __call__(
        self,
        items_BTD,
        feature_ids,
        feature_vectors,
        reset_BT,
        *,
        start=None,
        dropout_seed=None,
        first_row=0,
    ):
        told_BTD = items_BTD + self.dislike[...][feature_ids["dislike"]]
        before_BTD = jax.numpy.roll(told_BTD, 1, axis=1).at[:, 0].set(0)
        return told_BTD + jax.numpy.where(reset_BT[..., None], 0, before_BTD), None


class Forgetful(Newest):
    """Carries something, and ignores it."""

    def __call__(self, items_BTD, *inputs, **options):
        states_BTD, _ = super().__call__(items_BTD, *inputs, **options)
        return states_BTD, states_BTD[:, -1]


@pytest.fixture(scope="module", params=ENCODERS)
def served(request, trained):
    """A recommender with each encoder, and random parameters."""
    with mock.patch.dict(encoders._ENCODERS, {"newest": Newest, "forgetful": Forgetful}):
        config = dataclasses.replace(
            trained.config,
            model=dataclasses.replace(trained.config.model, encoder=request.param, heads=2),
        )
        model = Recommender(config.model, trained.catalogue)
        trainer = Trainer(config, model, trained.catalogue.train_count_V, 1, trained.mesh)
        run = dataclasses.replace(trained, config=config, model=model, state=trainer.init())
        yield TrainedRecommender(run, history=64)


def random_events(count, seed=0):
    rng = np.random.default_rng(seed)
    time_ms = np.cumsum(rng.integers(1_000, 900_000, count))
    return [
        {
            "item_id": int(rng.integers(10, 22)),
            "timestamp_ms": int(time),
            "dislike": [None, False, True][rng.integers(3)],
            "dismissal": [None, False, True][rng.integers(3)],
            "dwell_ms": int(rng.integers(0, 3000)),
            "surface": int(rng.integers(3)),
        }
        for time in time_ms
    ]


def log(events, user=1):
    return pa.Table.from_pylist([{"user_id": user} | event for event in events])


def items(table):
    return table["item_id"].to_pylist()


def test_each_step_equals_reading_the_whole_history(served):
    assert served.encoding.goes_on == (served.trained.config.model.encoder in BUILT_IN)
    events = random_events(40)
    session = served.session(1)
    for count, event in enumerate(events, start=1):
        assert session.add(event)
        if count in (1, 2, 15, 16, 40):
            whole, _ = served.recommend(log(events[:count]), 3, exclude_seen=False)
            again = served.session(events=log(events[:count]))
            np.testing.assert_allclose(session.state, again.state, atol=1e-5)
            lists = [session, again]
            for one in lists:
                found = one.recommend(3, exclude_seen=False)
                assert items(found) == items(whole)
                np.testing.assert_allclose(found["score"], whole["score"], atol=1e-5)
    assert (session.events, again.events) == (40, 40)


def test_a_session_can_be_restored_from_bytes(served):
    events = random_events(20, seed=1)
    session = served.session("u")
    for event in events[:12]:
        session.add(event)
    data = session.to_bytes()
    other = served.session(state=data)
    assert (other.user, other.events) == ("u", 12)
    for one in (session, other):
        for event in events[12:]:
            one.add(event)
    np.testing.assert_array_equal(session.state, other.state)
    rules = {"drop_disliked": True, "block_creators": True}
    assert session.recommend(5, **rules).equals(other.recommend(5, **rules))
    assert session.to_bytes() == other.to_bytes()
    assert len(data) < 12_000


def test_unknown_items_and_newcomers(served):
    session, newcomer = served.session(), served.session()
    assert not session.add({"item_id": 99, "dislike": True})
    assert (session.events, session.unknown) == (0, 1)
    assert session.recommend(5).equals(newcomer.recommend(5))
    listed, _ = served.recommend(pa.table({"user_id": [1], "item_id": [99], "pos": [0]}), 5)
    assert items(listed) == items(newcomer.recommend(5))


def test_a_dislike_changes_the_next_list(recommender):
    liked, disliked = recommender.session(), recommender.session()
    liked.add({"item_id": 10, "dislike": False})
    disliked.add({"item_id": 10, "dislike": True})
    assert not np.allclose(liked.state, disliked.state)
    assert liked.recommend(5)["score"] != disliked.recommend(5)["score"]


def test_bytes_of_another_kind(recommender, trained):
    data = recommender.session(7).to_bytes()
    dense = jax.tree.map(lambda x: x * 1.001, trained.state["dense"])
    other = TrainedRecommender(dataclasses.replace(trained, state=trained.state | {"dense": dense}))
    with pytest.raises(StateError, match="of model [0-9a-f]{16}, this is model"):
        other.session(state=data)
    newer = MAGIC + (VERSION + 1).to_bytes(2, "little") + data[10:]
    with pytest.raises(StateError, match=f"of version {VERSION + 1}, this negflax reads"):
        recommender.session(state=newer)
    flipped = data[:-30] + bytes([data[-30] ^ 1]) + data[-29:]
    for broken in (flipped, data[:-1], data + b"x"):
        with pytest.raises(StateError, match="damaged"):
            recommender.session(state=broken)
    for nothing in (b"", b"\x80\x04K\x01.", json.dumps({}).encode(), "text", 5):
        with pytest.raises(StateError, match="not a session state"):
            recommender.session(state=nothing)


@pytest.mark.parametrize(
    "event, field",
    [
        ({}, "item_id"),
        ({"item_id": None}, "item_id"),
        ({"item_id": 1.5}, "item_id"),
        ({"item_id": True}, "item_id"),
        ({"item_id": 10, "dislike": "yes"}, "dislike"),
        ({"item_id": 10, "dislike": np.array([1, 0])}, "dislike"),
        ({"item_id": 10, "dislke": True}, "dislke"),
        ({"item_id": 10, "dwell_ms": -1}, "dwell_ms"),
        ({"item_id": 10, "dwell_ms": float("nan")}, "dwell_ms"),
        ({"item_id": 10, "timestamp_ms": 1e30}, "timestamp_ms"),
        ({"item_id": 10, "timestamp_ms": 1.5}, "timestamp_ms"),
    ],
)
def test_a_bad_event_names_its_field_and_changes_nothing(recommender, event, field):
    session = recommender.session()
    before = session.to_bytes()
    with pytest.raises(EventError, match=f"`{field}`") as caught:
        session.add(event)
    assert caught.value.field == field
    assert session.to_bytes() == before


def test_a_time_in_another_unit_is_refused(recommender):
    session = recommender.session()
    session.add({"item_id": 10, "timestamp_ms": 1_700_000_000_000})
    for time in (1_700_000_000, 1_700_000_000_000_000):
        with pytest.raises(EventError, match=r"`timestamp_ms`.*looks like (micro)?seconds"):
            session.add({"item_id": 10, "timestamp_ms": time})
    with pytest.raises(DataError, match="`at`: 1700000000 looks like seconds"):
        session.recommend(3, at=1_700_000_000)


def test_columns_of_a_log_that_say_nothing_here_are_accepted(recommender):
    told, plain = recommender.session(), recommender.session()
    event = {"item_id": 10, "dislike": True}
    unread = {"creator_id": 3, "cluster_ids": [1], "propensity": 0.1, "reason": "old"}
    told.add(event | unread | {"split": "train", "dislike_at_ms": 9})
    plain.add(event)
    assert told.to_bytes() == plain.to_bytes()


def test_columns_that_the_label_rules_name_are_accepted(trained):
    labels = dataclasses.replace(trained.config.labels, positive=("bought and price > 3",))
    config = dataclasses.replace(trained.config, labels=labels)
    session = TrainedRecommender(dataclasses.replace(trained, config=config)).session()
    assert session.add({"item_id": 10, "bought": True, "price": 4})
    with pytest.raises(EventError, match="`sold`: no such field"):
        session.add({"item_id": 10, "sold": True})


def test_times_may_be_text(recommender):
    told, plain = recommender.session(), recommender.session()
    told.add({"item_id": 10, "timestamp_ms": "2024-05-01T12:00:00Z"})
    plain.add({"item_id": 10, "timestamp_ms": 1_714_564_800_000})
    assert told.to_bytes() == plain.to_bytes()
    with pytest.raises(EventError, match="`timestamp_ms`: 'noon': give milliseconds since 1970 or"):
        told.add({"item_id": 10, "timestamp_ms": "noon"})


def test_blanks_around_text_ids_say_nothing_as_in_a_log(trained):
    ids = np.array([f"v{one}" for one in trained.catalogue.item_ids])
    named = dataclasses.replace(trained.catalogue, item_ids=ids, bucket_rows=1_000)
    for item in (ids[3], "an item that is new"):  # known, and in a bucket
        codes = [
            encode_event({"item_id": text}, named, -1)[0].tolist()
            for text in (str(item), f" {item}\t")
        ]
        assert codes[0] == codes[1]


def test_all_dislikes_are_remembered(recommender):
    items = [int(x) for x in recommender.trained.catalogue.item_ids[1:]]
    session = recommender.session()
    for item in (items[0], *items[1:3] * 200):
        session.add({"item_id": item, "dislike": True})
    listed = session.recommend(5, exclude_seen=False, drop_disliked=True)["item_id"].to_pylist()
    assert not set(items[:3]) & set(listed)


def test_a_state_is_of_its_user_and_needs_no_events(recommender):
    data = recommender.session("a").to_bytes()
    assert recommender.session("a", state=data).user == "a"
    with pytest.raises(StateError, match="of user 'a', and not of 'b'"):
        recommender.session("b", state=data)
    with pytest.raises(StateError, match="from events or from a state, not from both"):
        recommender.session("a", events=pa.table({"item_id": [10]}), state=data)


def test_users_and_items_as_they_come_from_tables(recommender):
    events = pa.table({"user_id": [1, 1, 2], "item_id": [10, 999, 999], "pos": [0, 1, 2]})
    session = recommender.session(np.int64(1), events=events)
    assert (session.user, session.events, session.unknown) == (1, 1, 1)
    newcomer = recommender.session(np.int64(3))
    assert recommender.session(state=newcomer.to_bytes()).user == 3
    items = newcomer.recommend(12)["item_id"].to_pylist()
    for left_out in (np.array(items[:2], float), [f" {items[0]} ", f"{items[1]}.0"]):
        assert newcomer.recommend(12, exclude=left_out)["item_id"].to_pylist() == items[2:]


def test_a_log_of_several_users_needs_the_user(recommender):
    events = pa.table({"user_id": [1, 2], "item_id": [10, 11], "pos": [0, 1]})
    with pytest.raises(DataError, match="there are 2 users"):
        recommender.session(events=events)
    assert recommender.session("2", events=events).events == 1
    assert recommender.session(3, events=events).events == 0
    for k in (0, 2.5, "5", True, None):
        with pytest.raises(ConfigError, match=f"k = {k!r}: "):
            recommender.session().recommend(k)


def test_many_threads_give_the_lists_of_one(recommender):
    events = random_events(8, seed=3)
    alone = recommender.session()
    for event in events:
        alone.add(event)
    expected, found = items(alone.recommend(4)), []

    def work():
        session = recommender.session()
        for event in events:
            session.add(event)
        found.append(items(session.recommend(4)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8


def test_few_shapes_are_compiled(trained):
    run = TrainedRecommender(trained, history=40, users_at_a_time=8)
    step = run.encoding._read
    before = step._cache_size()
    for users in (1, 2, 3, 5, 9, 19):
        table = pa.table(
            {
                "user_id": [*range(users), 0, 0],
                "item_id": [10] * (users + 2),
                "pos": range(users + 2),
            }
        )
        for k in (1, 11):
            run.recommend(table, k)
    assert step._cache_size() - before <= 4


def test_sharded_tables_give_the_same_session(recommender, workdir):
    mesh = make_mesh(MeshConfig(table=2), jax.devices()[:2])
    sharded = TrainedRecommender.load(workdir, mesh=mesh)
    one, other = recommender.session(), sharded.session()
    for event in random_events(5):
        one.add(event)
        other.add(event)
    np.testing.assert_allclose(one.state, other.state, atol=1e-6)
    assert items(one.recommend(4, aversion=0.3)) == items(other.recommend(4, aversion=0.3))
