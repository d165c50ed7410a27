"""Parts of the judged items, and the figures of the lists themselves."""

import dataclasses
import itertools

import numpy as np
import pytest

from negflax.evaluate import build_queries, rank_queries
from negflax.evaluate.diversity import catalogue_coverage, diversity
from negflax.evaluate.ranking import rank_scorers
from negflax.evaluate.slices import STRATA, negative_strata, slices

USERS = [
    [
        (1, "-", "train"),
        (2, "+", "train"),
        (1, "-", "test"),
        (2, "-", "test"),
        (3, "-", "test"),
        (4, "-", "test"),
        (5, "-", "test"),
        (6, "+", "test"),
    ],
    [(3, "+", "test"), (1, "-", "test")],
]


@pytest.fixture
def related(make_sequences):
    """Items 1 and 3 share a creator, 1 and 4 a cluster, 2 and 5 (liked, not disliked) another."""
    sequences = make_sequences(USERS, 6)
    catalogue = dataclasses.replace(
        sequences.catalogue,
        creator_V=np.array([0, 1, 2, 1, 3, 4, 5], np.int32),
        clusters_VC=np.array([[0, 0], [1, 2], [3, 0], [0, 0], [4, 1], [3, 0], [0, 0]], np.int32),
        train_count_V=np.array([0, 9, 5, 5, 1, 0, 0]),
    )
    return dataclasses.replace(sequences, catalogue=catalogue)


def test_strata_of_negatives(related):
    queries = build_queries(related, "test")
    kinds = [STRATA[kind] for kind in negative_strata(related, queries)]
    assert queries.judged_item_J[:5].tolist() == [1, 2, 3, 4, 5]
    assert kinds[:5] == ["same_item", "same_item", "related", "related", "unrelated"]
    assert kinds[6:] == ["unrelated", "unrelated"]  # another user, without a history


def test_parts_divide_the_judged_items(related):
    queries = build_queries(related, "test")
    parts = slices(related, queries)
    for family in ("item_popularity", "history"):
        members = [chosen for name, chosen in parts.items() if name.startswith(family)]
        assert (np.sum(members, axis=0) == 1).all()
    popular = queries.judged_item_J[parts["item_popularity=high"]]
    assert set(popular.tolist()) == {1} and not parts["history=middle"].any()
    assert parts["history=short"].tolist() == [False] * 6 + [True] * 2
    negative = sum(parts[f"negative={name}"] & ~queries.judged_positive_J for name in STRATA)
    assert (negative == ~queries.judged_positive_J).all()


def test_lists_are_by_score_then_by_row(log):
    queries = build_queries(log, "test")
    scores = np.random.default_rng(0).integers(0, 4, (len(log.user_ids), 41)).astype(np.float32)
    scorers = {"s": lambda block: scores[block.user_R]}
    for masked, ranks in rank_scorers(scorers, queries, log, (True, False), 64, 35).items():
        for query, found in enumerate(ranks.list_RK):
            user = queries.user_R[query]
            seen = log.item_E[log.offsets_U1[user] : queries.end_R[query]] if masked[0] else []
            allowed = [row for row in range(1, 41) if row not in seen]
            best = sorted(allowed, key=lambda row: (-scores[user, row], row))[:35]
            assert found[: len(best)].tolist() == best and not found[len(best) :].any()
    assert rank_queries(scorers["s"], queries, log, True, 64).list_RK.shape[1] == 0


def test_diversity_is_the_share_of_pairs_with_nothing_in_common(related):
    lists = np.array([[1, 2, 3, 4], [1, 3, 0, 0], [3, 6, 0, 0], [6, 0, 0, 0]])
    catalogue = related.catalogue
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
