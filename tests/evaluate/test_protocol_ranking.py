"""Queries, masking, exact ranks and probabilities, and what a scorer may not see."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.config import EvalConfig
from negflax.data import history_batch
from negflax.data.histories import history_items, padded_history_items
from negflax.evaluate import (
    EvaluationError,
    build_queries,
    default_baselines,
    query_values,
    rank_queries,
)
from negflax.evaluate.baselines.filters import block_creator
from negflax.evaluate.baselines.popularity import rate_adjusted

USERS = [
    [(1, "+", "train"), (2, "-", "train"), (3, "+", "valid"), (4, "+", "test"), (5, "-", "test")],
    [(1, "+", "train"), (1, "", "test")],
    [(2, "+", "test"), (2, "-", "test"), (3, "+", "test"), (3, "+", "test"), (6, "", "test")],
    [(4, "", "train"), (4, "-", "valid"), (1, "-", "test"), (4, "+", "test")],
]


def fixed(scores_V):
    return lambda block: np.tile(np.asarray(scores_V, np.float32), (len(block), 1))


def test_queries_of_the_test_window(make_sequences):
    queries = build_queries(make_sequences(USERS, 6), "test")
    assert queries.user_R.tolist() == [0, 2, 3]  # user 1 has no label in the window
    assert queries.end_R.tolist() == [3, 7, 14]  # valid events are history; a new user has none
    assert queries.judged_offsets_R1.tolist() == [0, 2, 4, 6]
    assert queries.judged_item_J.tolist() == [4, 5, 2, 3, 1, 4]
    assert queries.judged_positive_J.tolist() == [True, False, False, True, False, True]


def test_valid_queries_blocks_and_samples(log):
    queries = build_queries(log, "valid")
    assert (log.split_E[queries.end_R] == 1).all()
    block = queries.block(3, 5)
    assert len(block) == 2 and block.judged_offsets_R1[0] == 0
    first, last = queries.judged_offsets_R1[[3, 5]]
    assert block.judged_item_J.tolist() == queries.judged_item_J[first:last].tolist()
    sample, again = (build_queries(log, "valid", 20, seed=1) for _ in range(2))
    assert len(sample) == 20 and np.isin(sample.user_R, queries.user_R).all()
    assert sample.user_R.tolist() == again.user_R.tolist()
    assert sample.user_R.tolist() != build_queries(log, "valid", 20, seed=2).user_R.tolist()


def test_successive_queries(make_sequences):
    queries = build_queries(make_sequences(USERS, 6), "test", state="successive")
    assert queries.user_R.tolist() == [0, 0, 2, 2, 2, 2, 3, 3]
    assert queries.end_R.tolist() == [3, 4, 7, 8, 9, 10, 14, 15]  # the event itself is not input
    assert queries.judged_item_J.tolist() == [4, 5, 2, 2, 3, 3, 1, 4]
    assert queries.judged_positive_J.tolist() == [True, False, True, False, True, True, False, True]
    assert np.diff(queries.judged_offsets_R1).tolist() == [1] * 8
    with pytest.raises(EvaluationError, match="choose `last_only` or `successive`"):
        build_queries(make_sequences(USERS, 6), "test", state="rolling")


def test_padded_histories(make_sequences):
    queries = build_queries(make_sequences(USERS, 6), "test", state="successive")
    found = padded_history_items(make_sequences(USERS, 6), queries.user_R, queries.end_R)
    assert found.shape == (8, 4)
    expected = [[1, 2, 3], [1, 2, 3, 4], [], [2], [2], [2, 3], [4], [1, 4]]
    assert [sorted(set(row) - {0}) for row in found.tolist()] == expected


def test_unusable_windows(make_sequences):
    sequences = make_sequences([[(1, "+", "train"), (2, "", "test")]], 3)
    with pytest.raises(EvaluationError, match="no event of the test period has a label"):
        build_queries(sequences, "test")
    with pytest.raises(EvaluationError, match="choose `valid` or `test`"):
        build_queries(sequences, "train")


def test_masked_and_kept(make_sequences):
    sequences = make_sequences(USERS, 6)
    queries = build_queries(sequences, "test")
    scorer = fixed([99, 6, 5, 4, 3, 2, 1])
    kept = rank_queries(scorer, queries, sequences, False, 2)
    masked = rank_queries(scorer, queries, sequences, True, 2)
    assert kept.eligible_J.all()
    assert kept.greater_J.tolist() == [3, 4, 1, 2, 0, 3]  # row 0 is no candidate
    assert masked.eligible_J.tolist() == [True] * 5 + [False]  # user 3 has seen item 4
    assert masked.greater_J[:5].tolist() == [0, 1, 1, 2, 0]
    np.testing.assert_array_equal(masked.log_p_J, kept.log_p_J)
    values = query_values(masked, queries, EvalConfig(ks=(2,)))
    assert values["hr_p@2"].weight_R.tolist() == [1, 1, 0]  # its only positive was seen


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(-3, 3), min_size=9, max_size=9), min_size=4, max_size=4),
    st.booleans(),
    st.integers(1, 5),
)
def test_ranks_against_counting(make_sequences, rows, masked, users_per_block):
    sequences = make_sequences(USERS, 8)
    queries = build_queries(sequences, "test")
    scores = np.array(rows, np.float32)
    ranks = rank_queries(
        lambda block: scores[block.user_R], queries, sequences, masked, users_per_block
    )
    for j, (r, item) in enumerate(zip(queries.query_J, queries.judged_item_J, strict=True)):
        user = queries.user_R[r]
        seen = sequences.item_E[sequences.offsets_U1[user] : queries.end_R[r]] if masked else []
        assert ranks.eligible_J[j] == (item not in seen)
        if ranks.eligible_J[j]:
            listed = np.array([scores[user, i] for i in range(1, 9) if i not in seen])
            assert ranks.greater_J[j] == (listed > scores[user, item]).sum()
            assert ranks.ties_J[j] == (listed == scores[user, item]).sum()
        p = np.exp(scores[user, 1:].astype(float))
        p = p[item - 1] / p.sum()
        assert ranks.log_p_J[j] == pytest.approx(np.log(p), rel=1e-6)
        assert ranks.log_not_p_J[j] == pytest.approx(np.log(1 - p), rel=1e-6)


@pytest.mark.parametrize("top", [50.0, 300.0, 1e30])
def test_probability_of_a_certain_item_is_exact(make_queries, top):
    sequences, queries = make_queries([({1}, {2})], 3)
    ranks = rank_queries(fixed([0, top, 0, 0]), queries, sequences, False, 4)
    gap = float(np.float32(top))
    assert ranks.log_not_p_J[0] == pytest.approx(np.log(2) - gap)
    assert ranks.log_p_J == pytest.approx([0, -gap])
    assert ranks.log_not_p_J[1] == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_a_failure(log, bad):
    queries = build_queries(log, "test")
    scores = np.zeros((300, 41), np.float32)
    scores[queries.user_R[7], 5] = bad
    scores[:, 0] = -np.inf  # row 0 is not looked at
    user = log.user_ids[queries.user_R[7]]
    with pytest.raises(EvaluationError, match=rf"broken: score .* for user {user}, .* row 5"):
        rank_queries(lambda block: scores[block.user_R], queries, log, True, 64, "broken")


def test_scores_of_the_wrong_shape(log):
    with pytest.raises(EvaluationError, match=r"shape \(64, 40\), expected \(64, 41\)"):
        rank_queries(
            lambda block: np.zeros((len(block), 40)), build_queries(log, "test"), log, True, 64
        )


def test_integer_scores_are_accepted(log):
    queries = build_queries(log, "test")
    whole, real = (
        rank_queries(
            lambda block, d=d: np.tile(np.arange(41, dtype=d), (len(block), 1)),
            queries,
            log,
            True,
            64,
        )
        for d in (np.int32, np.float32)
    )
    np.testing.assert_array_equal(whole.greater_J, real.greater_J)


def test_no_scorer_sees_an_answer(log):
    seen = []
    scorer = lambda block: (seen.append(block), np.zeros((len(block), 41)))[1]  # noqa: E731
    rank_queries(scorer, build_queries(log, "test"), log, True, 128)
    assert all(len(block.judged_item_J) == 0 for block in seen)
    assert all(not block.judged_offsets_R1.any() for block in seen)


FEEDBACK = ("item_E", "positive_weight_E", "negative_weight_E", "dislike_E")


def shuffled_from(log, first_U):
    """The log with what happens to each user from an event on, and its feedback, permuted."""
    rng = np.random.default_rng(1)
    order = np.arange(len(log.item_E))
    user_E = np.repeat(np.arange(len(log.user_ids)), np.diff(log.offsets_U1))
    window = np.flatnonzero(order >= first_U[user_E])
    order[window] = rng.permutation(window)
    return dataclasses.replace(log, **{field: getattr(log, field)[order] for field in FEEDBACK})


def assert_same_questions(log, other, queries):
    """Both logs give a model the same inputs and the baselines the same scores."""
    for one, two in zip(
        *(history_items(x, queries.user_R, queries.end_R) for x in (log, other)), strict=True
    ):
        np.testing.assert_array_equal(one, two)
    histories = (history_batch(x, queries.end_R, queries.user_R, 12) for x in (log, other))
    for one, two in zip(*histories, strict=True):
        np.testing.assert_array_equal(one, two)
    scorers = [default_baselines(x, ("train",), 0) for x in (log, other)]
    for x, baselines in zip((log, other), scorers, strict=True):
        baselines["rate"] = rate_adjusted(baselines["markov"], x, ("train",), 1.0)
        baselines["filter"] = block_creator(baselines["markov"], x)
    for name in scorers[0]:
        np.testing.assert_array_equal(scorers[0][name](queries), scorers[1][name](queries))


def test_feedback_of_the_window_changes_no_score(log):
    """Shuffling what happens from the window on leaves every input as it was (§5.3)."""
    queries = build_queries(log, "test").without_answers()
    first_U = log.offsets_U1[1:].copy()
    first_U[queries.user_R] = queries.end_R
    assert_same_questions(log, shuffled_from(log, first_U), queries)


def test_feedback_from_the_scored_event_on_changes_no_successive_score(log):
    """Rolling: neither the event's own feedback nor anything after it is an input (§5.3)."""
    log = dataclasses.replace(
        log, dislike_E=np.where(log.negative_weight_E > 0, 2, 1).astype(np.uint8)
    )
    queries = build_queries(log, "test", state="successive").without_answers()
    order = np.random.default_rng(2).permutation(len(queries))
    chosen = order[np.unique(queries.user_R[order], return_index=True)[1]]  # an event of each user
    first_U = log.offsets_U1[1:].copy()
    first_U[queries.user_R[chosen]] = queries.end_R[chosen]
    other, safe_R = shuffled_from(log, first_U), queries.end_R <= first_U[queries.user_R]
    assert 100 < safe_R.sum() < len(queries)

    def part(keep_R):
        return dataclasses.replace(
            queries,
            user_R=queries.user_R[keep_R],
            end_R=queries.end_R[keep_R],
            judged_offsets_R1=np.zeros(keep_R.sum() + 1, np.int64),
        )

    assert_same_questions(log, other, part(safe_R))
    later = part(~safe_R)
    items = [history_batch(x, later.end_R, later.user_R, 12).item_ids_BT for x in (log, other)]
    assert (items[0] != items[1]).any()  # the shuffle is one that could have been seen
