"""Parts of the judged items, and the figures of the lists themselves."""

import dataclasses
import itertools

import numpy as np
import pytest

from negflax.evaluate import build_requests, rank_requests
from negflax.evaluate.lists import catalogue_coverage, diversity
from negflax.evaluate.ranking import rank_scorers
from negflax.evaluate.slices import STRATA, negative_strata, slices

USERS = [
    [(1, "-", "train"), (2, "+", "train"), (1, "-", "test"), (2, "-", "test"), (3, "-", "test"),
     (4, "-", "test"), (5, "-", "test"), (6, "+", "test")],
    [(3, "+", "test"), (1, "-", "test")],
]  # fmt: skip


@pytest.fixture
def kin(make_sequences):
    """Items 1 and 3 share a creator, 1 and 4 a cluster, 2 and 5 (liked, not disliked) another."""
    sequences = make_sequences(USERS, 6)
    catalogue = dataclasses.replace(
        sequences.catalogue,
        creator_V=np.array([0, 1, 2, 1, 3, 4, 5], np.int32),
        clusters_VC=np.array([[0, 0], [1, 2], [3, 0], [0, 0], [4, 1], [3, 0], [0, 0]], np.int32),
        train_count_V=np.array([0, 9, 5, 5, 1, 0, 0]),
    )
    return dataclasses.replace(sequences, catalogue=catalogue)


def test_strata_of_negatives(kin):
    requests = build_requests(kin, "test")
    kinds = [STRATA[kind] for kind in negative_strata(kin, requests)]
    assert requests.judged_item_J[:5].tolist() == [1, 2, 3, 4, 5]
    assert kinds[:5] == ["same_item", "same_item", "kin", "kin", "unrelated"]
    assert kinds[6:] == ["unrelated", "unrelated"]  # another user, without a history


def test_parts_divide_the_judged_items(kin):
    requests = build_requests(kin, "test")
    parts = slices(kin, requests)
    for family in ("item_popularity", "history"):
        members = [chosen for name, chosen in parts.items() if name.startswith(family)]
        assert (np.sum(members, axis=0) == 1).all()
    popular = requests.judged_item_J[parts["item_popularity=high"]]
    assert set(popular.tolist()) == {1} and not parts["history=middle"].any()
    assert parts["history=short"].tolist() == [False] * 6 + [True] * 2
    negative = sum(parts[f"negative={name}"] & ~requests.judged_positive_J for name in STRATA)
    assert (negative == ~requests.judged_positive_J).all()


def test_lists_are_by_score_then_by_row(log):
    requests = build_requests(log, "test")
    scores = np.random.default_rng(0).integers(0, 4, (len(log.user_ids), 41)).astype(np.float32)
    scorers = {"s": lambda block: scores[block.user_R]}
    for masked, ranks in rank_scorers(scorers, requests, log, (True, False), 64, 35).items():
        for request, found in enumerate(ranks.list_RK):
            user = requests.user_R[request]
            seen = log.item_E[log.offsets_U1[user] : requests.end_R[request]] if masked[0] else []
            allowed = [row for row in range(1, 41) if row not in seen]
            best = sorted(allowed, key=lambda row: (-scores[user, row], row))[:35]
            assert found[: len(best)].tolist() == best and not found[len(best) :].any()
    assert rank_requests(scorers["s"], requests, log, True, 64).list_RK.shape[1] == 0


def test_diversity_is_the_share_of_pairs_with_nothing_in_common(kin):
    lists = np.array([[1, 2, 3, 4], [1, 3, 0, 0], [3, 6, 0, 0], [6, 0, 0, 0]])
    catalogue = kin.catalogue
    found = diversity(lists, catalogue)

    def slow(groups, row):
        known = [set(groups[item]) - {0} for item in row if item and any(groups[item])]
        pairs = list(itertools.combinations(known, 2))
        return np.mean([not (a & b) for a, b in pairs]) if pairs else np.nan

    creators = catalogue.creator_V[:, None]
    for name, groups in (("creator", creators), ("cluster", catalogue.clusters_VC)):
        expected = [slow(groups, row) for row in lists]
        np.testing.assert_allclose(found[f"{name}_diversity"], expected)
    assert found["creator_diversity"].tolist()[1] == 0


def test_catalogue_coverage():
    assert catalogue_coverage(np.array([[1, 2], [2, 0]]), 5) == 0.5
