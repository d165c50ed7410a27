"""Invariants of the counterfactual simulation (docs/method.md §7), against plain counting."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from branching import CLUSTERS, ITEMS, SETTINGS, K

from negflax.data import DataError
from negflax.simulate import arm as trained_arm
from negflax.simulate import pairs, walk
from negflax.simulate.arm import Events
from negflax.simulate.measures import (
    Lists,
    block_creator,
    figures,
    kinds_of,
    other_interests,
    similarity,
    summarise,
)
from negflax.simulate.pair_bootstrap import Pairs, changes
from negflax.simulate.responsiveness import simulate

FEATURES = "features"  # the encoder's tables of feedback features
ARMS = [(name, where) for name in ("sees", "blind") for where in ("shared", "own")]


@pytest.mark.parametrize("where", ["shared", "own"])
def test_a_model_without_the_dislike_input_gives_exactly_0(walks, log, where):
    found = walks["blind", where].found
    np.testing.assert_array_equal(found.branch_BSK[0], found.branch_BSK[1])
    np.testing.assert_array_equal(found.later_2JSK[0], found.later_2JSK[1])
    for dose in range(1, 4):
        np.testing.assert_array_equal(found.dose_4SK[0], found.dose_4SK[dose])
    assert (found.branch_BSK[0] != found.branch_BSK[2]).any()  # a skip it sees, by the dwell
    named = figures("blind", summarise([Lists([found], log.catalogue)], 500, 0))
    assert set(named.values()) == {0.0}
    assert "responsiveness/blind/cluster_low" in named and "specificity/blind" in named


@pytest.mark.parametrize(
    "features,where", [(("gap", "dislike"), "own"), (("gap", "dwell"), "shared")]
)
def test_a_model_that_cannot_tell_a_skip_gives_exactly_0_for_skips(arm, log, features, where):
    plan = dataclasses.replace(SETTINGS.plan, signal="skip", own=where == "own")
    found = simulate(arm(features=features), log, dataclasses.replace(SETTINGS, plan=plan)).found
    answers = "dwell" in features
    for lists in (found.branch_BSK[::2], found.later_2JSK, found.dose_4SK[::3]):
        assert (lists[0] != lists[1]).any() == answers
    named = figures("arm", summarise([Lists([found], log.catalogue)], 100, 0, "skip"), "skip")
    assert (set(named.values()) != {0.0}) == answers
    np.testing.assert_array_equal(found.branch_BSK[2], found.branch_BSK[3])  # no bit to read


def test_a_dismissal_is_a_skip_and_one_bit(arm, log):
    found = simulate(arm(features=("dwell", "dismissal")), log, SETTINGS).found
    np.testing.assert_array_equal(found.branch_BSK[0], found.branch_BSK[1])
    assert (found.branch_BSK[2] != found.branch_BSK[3]).any()
    unknown = dataclasses.replace(log, dismissal_E=None)
    found = simulate(arm(features=("dwell", "dismissal")), unknown, SETTINGS).found
    np.testing.assert_array_equal(found.branch_BSK[2], found.branch_BSK[3])
    rows = {r["what"]: r for r in summarise([Lists([found], log.catalogue)], 100, 0)}
    assert rows["dismissal over skip"]["change"] == 0 != rows["skip"]["change"]


@pytest.mark.parametrize("where", ["shared", "own"])
def test_a_model_with_the_input_responds_more_to_more_dislikes(walks, where):
    found = walks["sees", where].found
    differs = [(found.dose_4SK[0] != found.dose_4SK[dose]).mean() for dose in (1, 2, 3)]
    assert 0 < differs[0] and max(differs) > differs[0]
    assert (found.branch_BSK[0] != found.branch_BSK[1]).any()
    assert (found.later_2JSK[0, 0] != found.later_2JSK[1, 0]).any()


@pytest.mark.parametrize("name,where", ARMS)
def test_what_was_consumed_is_not_listed_and_no_item_twice(walks, name, where):
    found = walks[name, where].found
    users = len(found.item_S)
    assert found.before_SN.shape == (60, K - 1)
    for lists in (*found.branch_BSK, found.later_2JSK[0, 0]):
        assert lists.min() >= 1 and lists.max() <= ITEMS
        for user in range(users):
            taken = {*found.before_SN[user], found.item_S[user]}
            assert len(set(lists[user])) == lists.shape[1] and not taken & set(lists[user])
    if where == "own":  # consumed from lists that leave out what was consumed, but for exploration
        distinct = np.mean([len(set(row)) for row in found.before_SN])
        assert distinct > K - 2


def test_shared_trajectories_are_the_logs_and_states_carried_on_those_of_one_pass(walks, arm, log):
    found = walks["sees", "shared"].found
    prefix, _ = pairs.draw_pairs(log, 64, K, 3, 0)
    np.testing.assert_array_equal(found.before_SN, prefix.item[:60, :-1])
    np.testing.assert_array_equal(found.item_S, prefix.item[:60, -1])
    trained = arm(features=("dislike", "dwell"))
    given = trained_arm.arm_of(trained, has_dwell=True)
    at_k = trained_arm.feedback(given, Events(*(x[:, -1] for x in prefix)), "dislike")
    whole = Events(
        *(
            np.concatenate([np.zeros((64, 1), np.int32), x[:, :-1], y[:, None]], 1)
            for x, y in zip(prefix, at_k, strict=True)
        )
    )
    state_SD, _ = trained_arm.read(trained.model, given, whole, None)
    expected, _ = trained_arm.best(trained.model, given, state_SD, prefix.item, 20)
    assert (np.asarray(expected)[:60] == found.branch_BSK[1]).mean() > 0.99  # but for ties


@pytest.mark.parametrize("kind", ["cluster", "creator"])
def test_similarity_exceeds_chance_where_the_model_recommends_more_of_the_same(arm, log, kind):
    """The state is made the last item's vector, and that its kind's."""
    trained = arm(features=("gap",))
    kind_V = kinds_of(log.catalogue)[kind]
    towards = np.random.default_rng(0).normal(size=(kind_V.max() + 1, 8))
    rows = np.asarray(trained.state["tables"]["item"]["rows"]).copy()
    rows[: ITEMS + 1, :8] = towards[kind_V] / np.linalg.norm(towards[kind_V], axis=1)[:, None]
    dense = {
        name: np.zeros_like(x) for name, x in trained.state["dense"].items() if name != FEATURES
    }
    dense["kernel"][:8, 16:] = np.eye(8)  # gates r, z, n: only n reads the item
    dense["bias"][8:16] = -20  # z = 0: nothing of before is kept
    dense[FEATURES] = trained.state["dense"][FEATURES]
    state = {"dense": dense, "tables": {"item": {"rows": rows}}}
    found = simulate(dataclasses.replace(trained, state=state), log, SETTINGS).found
    same = np.nanmean(similarity(found.branch_BSK[0][:, :3], found.item_S, kind_V))
    assert same > 0.8 > 3 * pairs.chance(log.catalogue, found.item_S, kind_V)


@pytest.mark.parametrize("name,where", [("sees", "shared"), ("sees", "own")])
def test_clusters_at_random_give_an_interval_that_covers_0(walks, log, name, where):
    found, rng = walks[name, where].found, np.random.default_rng(1)
    cluster_V = kinds_of(log.catalogue)["cluster"]
    covered = 0
    for _ in range(20):
        shuffled_V = np.append(0, rng.permutation(cluster_V[1:]))
        without, with_dislike = (
            similarity(x, found.item_S, shuffled_V) for x in found.branch_BSK[:2]
        )
        one = changes([Pairs(with_dislike[None, None], without[None, None])], 500, 0)[0]
        covered += one["change_low"] <= 0 <= one["change_high"]
    assert covered >= 16  # 95 % intervals, 60 pairs


def test_measures_by_plain_counting(walks, log):
    found = walks["sees", "shared"].found
    kind_V = kinds_of(log.catalogue)["cluster"].copy()
    kind_V[found.item_S[0]] = 0  # unknown: no similarity
    lists = found.branch_BSK[0]
    got = similarity(lists, found.item_S, kind_V), other_interests(found, lists, kind_V)
    for user in range(60):
        own, listed = kind_V[found.item_S[user]], [kind_V[row] for row in lists[user]]
        if own:
            assert got[0][user] == pytest.approx(np.mean([x == own for x in listed]))
        else:
            assert np.isnan(got[0][user])
        past = {kind_V[row] for row in found.before_SN[user]} - {0, own}
        rest = [x for x in listed if x != own]
        assert got[1][user] == pytest.approx(np.mean([x in past for x in rest]))


def test_the_filter_moves_the_next_items_up():
    creator_V = np.array([0, 7, 8, 7, 9])
    lists = np.array([[1, 2, 3, 4], [2, 1, 4, 3]])
    np.testing.assert_array_equal(
        block_creator(lists, np.array([3, 4]), creator_V), [[2, 4, -1, -1], [2, 1, 3, -1]]
    )


@pytest.mark.parametrize("signal", walk.SIGNALS)
def test_the_logs_own_effect_by_plain_counting(log, signal):
    kind_V = kinds_of(log.catalogue)["cluster"]
    value, low, high = pairs.log_effect(log, kind_V, 500, 0, signal)
    total = {1: [0, 0], 2: [0, 0]}
    edges = pairs.features.DWELL_EDGES_MS
    short, long = (1 + np.searchsorted(edges, ms, side="right") for ms in (3_000, 18_000))
    for user in range(len(log.user_ids)):
        start, stop = log.offsets_U1[user : user + 2]
        for e in range(start, stop):
            watched = log.dwell_E[e] >= long
            code = log.dislike_E[e] * watched
            if signal == "skip":
                code = 2 if log.dwell_E[e] < short else int(watched)
            for later in range(e + 1, min(stop, e + 21)):
                if code and log.positive_weight_E[later] > 0:
                    total[code][0] += kind_V[log.item_E[e]] == kind_V[log.item_E[later]]
                    total[code][1] += 1
    expected = (total[2][0] / total[2][1]) / (total[1][0] / total[1][1]) - 1
    assert value == pytest.approx(expected)
    assert low < value < high and low < 0 < high  # feedback in this log is random


def test_chance_is_the_share_of_the_catalogue(log):
    kind_V = kinds_of(log.catalogue)["cluster"]
    random = pairs.chance(log.catalogue, np.arange(1, ITEMS + 1), kind_V)
    sizes = np.bincount(kind_V[1:], minlength=CLUSTERS + 1)
    assert random == pytest.approx((sizes**2).sum() / ITEMS**2)


def test_a_log_without_clusters_or_long_histories_is_refused(arm, log):
    with pytest.raises(DataError, match="no user has a history of 30 events"):
        pairs.draw_pairs(log, 10, 30, 3, 0)
    catalogue = dataclasses.replace(log.catalogue, creator_V=0 * log.catalogue.creator_V)
    with pytest.raises(DataError, match="no item has a creator"):
        pairs.draw_pairs(dataclasses.replace(log, catalogue=catalogue), 10, K, 3, 0)
