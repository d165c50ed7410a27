import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from negflax.config import ConfigError
from negflax.serve import TrainedRecommender, list_rules
from negflax.serve.list_rules import ListRules, UserHistory, rules_of, walk


def log(items, disliked=()):
    count = len(items)
    said_no = [item in disliked for item in items]
    return pa.table(
        {"user_id": [1] * count, "item_id": items, "pos": range(count), "dislike": said_no}
    )


def ranking(recommender, events):
    """All items by falling score."""
    table, _ = recommender.recommend(events, 12, exclude_seen=False)
    return table["item_id"].to_pylist()


def of(trained, name, items):
    rows = np.array(items) - 9
    return {
        "creator": trained.catalogue.creator_V[rows],
        "cluster": trained.catalogue.clusters_VC[rows, 0],
    }[name]


def test_excluded_items_leave_the_order_of_the_others(recommender):
    events = log([10, 11])
    best = ranking(recommender, events)
    exclude = [best[0], str(best[2]), "unknown", 10**30]
    table, _ = recommender.recommend(events, 4, exclude_seen=False, exclude=exclude)
    assert table["item_id"].to_pylist() == [best[1], *best[3:6]]


def test_dropped_and_blocked_by_a_dislike(recommender, trained):
    events = log([10, 11, 12], disliked=[11])
    best = ranking(recommender, events)
    table, _ = recommender.recommend(events, 11, exclude_seen=False, drop_disliked=True)
    assert table["item_id"].to_pylist() == [item for item in best if item != 11]
    table, report = recommender.recommend(events, 12, exclude_seen=False, block_creators=True)
    creator = of(trained, "creator", [11])[0]
    allowed = [i for i in best if of(trained, "creator", [i])[0] != creator]
    assert table["item_id"].to_pylist() == allowed
    assert report["short_lists"] == 1


@pytest.mark.parametrize("kind", ["creator", "cluster"])
def test_caps(recommender, trained, kind):
    events = log([10])
    best = [item for item in ranking(recommender, events) if item != 10]
    table, _ = recommender.recommend(events, 5, **{f"cap_per_{kind}": 2})
    expected = []
    for item in best:
        same = of(trained, kind, [item])[0]
        if sum(of(trained, kind, [i])[0] == same for i in expected) < 2:
            expected.append(item)
    assert table["item_id"].to_pylist() == expected[:5]


def test_aversion_leaves_out_what_is_near_a_dislike(recommender, trained):
    events = log([10, 11, 12], disliked=[12])
    rows_VD = np.asarray(trained.state["tables"]["item"]["rows"], np.float64)[:13, :6]
    unit_VD = rows_VD / np.linalg.norm(rows_VD, axis=1, keepdims=True)
    cosine_V = unit_VD @ unit_VD[3]
    best = [item for item in ranking(recommender, events) if item > 12]
    table, _ = recommender.recommend(events, 9, aversion=0.2)
    allowed = [item for item in best if cosine_V[item - 9] < 0.2]
    assert 0 < len(allowed) < len(best)
    assert table["item_id"].to_pylist() == allowed
    # Three are read in the shape of four.
    same, _ = recommender.recommend(events, 9, aversion=0.2, recent=3)
    assert same.equals(table)


def test_an_explained_list_is_the_list_with_what_was_left_out(recommender):
    events = log([10, 11, 12], disliked=[12])
    rules = {"aversion": 0.2, "exclude": [13], "drop_disliked": True}
    plain, _ = recommender.recommend(events, 3, **rules)
    table, _ = recommender.recommend(events, 3, explain=True, **rules)
    assert table["score"].to_pylist() == sorted(table["score"].to_pylist(), reverse=True)
    rows = table.to_pylist()
    assert [row["item_id"] for row in rows if row["rank"]] == plain["item_id"].to_pylist()
    assert [row["rank"] for row in rows if row["rank"]] == [1, 2, 3]
    said = {row["item_id"]: row["reason"] for row in rows if not row["rank"]}
    expected = {10: list_rules.SEEN, 11: list_rules.SEEN, 12: list_rules.DISLIKED}
    expected[13] = list_rules.EXCLUDED
    for item, reason in said.items():
        assert reason == expected.get(item, list_rules.NEAR)
    everything, _ = recommender.recommend(events, 12, exclude_seen=False, explain=True)
    p = np.array(everything["p"].to_pylist())
    scores = np.array(everything["score"].to_pylist(), np.float64)
    np.testing.assert_allclose(p, np.exp(scores) / np.exp(scores).sum(), rtol=1e-5)


def test_a_walk_by_hand(trained):
    catalogue = dataclasses.replace(
        trained.catalogue,
        creator_V=np.array([0, 1, 1, 1, 2, 0, 0]),
        clusters_VC=np.array([[0, 0], [1, 2], [2, 0], [3, 0], [1, 2], [0, 0], [3, 0]]),
        item_ids=np.arange(6),
    )
    near_M = np.array([False, False, False, False, True, False])
    rules = ListRules(cap_per_creator=2, cap_per_cluster=1)
    nobody = UserHistory(np.zeros(0, int), np.zeros(0, int))
    listed, left = walk(np.array([1, 2, 3, 4, 5, 6]), near_M, nobody, rules, catalogue, {}, 4)
    assert listed == [0, 2]
    assert left == [
        (1, list_rules.FULL_CLUSTER),
        (3, list_rules.FULL_CLUSTER),
        (4, list_rules.NEAR),
        (5, list_rules.FULL_CLUSTER),
    ]


def test_rules_are_checked():
    with pytest.raises(ConfigError, match="no rule 'exclud': did you mean exclude"):
        rules_of({"exclud": [1]})
    with pytest.raises(ConfigError, match="cap_per_creator = -1"):
        rules_of({"cap_per_creator": -1})
    with pytest.raises(ConfigError, match="aversion = nan"):
        rules_of({"aversion": float("nan")})
    with pytest.raises(ConfigError, match="give a list of item ids"):
        rules_of({"exclude": "17"})


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("cap_per_creator", "2", "give a whole number"),
        ("cap_per_cluster", 1.5, "give a whole number"),
        ("cap_per_creator", True, "give a whole number"),
        ("recent", 10**9, "from 0 to 256"),
        ("aversion", None, "give a cosine"),
        ("aversion", "x", "give a cosine"),
        ("exclude", 5, "give a list of item ids"),
        ("exclude", None, "give a list of item ids"),
        ("exclude", iter([5]), "give a list of item ids"),
        ("exclude_seen", "no", "give True or False"),
        ("drop_disliked", None, "give True or False"),
    ],
)
def test_values_that_are_no_rule(name, value, words):
    with pytest.raises(ConfigError, match=f"{name} = .*{words}"):
        ListRules(**{name: value})


def test_lists_have_cluster_names(trained):
    names = np.array(["Action", "Comedy", "Drama"])
    catalogue = dataclasses.replace(
        trained.catalogue,
        cluster_ids=names,
        clusters_VC=np.stack([trained.catalogue.clusters_VC[:, 0], [0] + [3] * 12], axis=1),
    )
    run = TrainedRecommender(dataclasses.replace(trained, catalogue=catalogue), history=5)
    table, _ = run.recommend(log([10]), 3)
    for row in table.to_pylist():
        own = names[trained.catalogue.creator_V[row["item_id"] - 9] - 1]
        assert row["clusters"] == f"{own}|Drama"


def test_progress_and_no_users(recommender):
    users = pa.table({"user_id": range(9), "item_id": [10] * 9, "pos": [0] * 9})
    told = []
    recommender.recommend(users, 2, progress=lambda *done: told.append(done))
    assert told == [(4, 9), (8, 9), (9, 9)]
