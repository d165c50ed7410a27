"""Pairs within users: by loops, in a log with a personal effect, and in one without."""

import types

import numpy as np
import pytest

from negflax.data import DataError
from negflax.study import within_user
from negflax.study.within_user import Judged, log_odds, period_begins, predicted, user_aucs

USERS, EVENTS, ITEMS, GROUPS = 300, 40, 60, 6


def judged(personal, seed=0):
    """Each user rejects items by their quality and, if personal, those of two groups."""
    rng = np.random.default_rng(seed)
    user_J = np.repeat(np.arange(USERS), EVENTS)
    item_J = rng.integers(1, ITEMS, len(user_J))
    averse_UG = rng.random((USERS, GROUPS + 1)) < 0.3
    odds_J = rng.normal(size=ITEMS)[item_J] - 1
    odds_J += 2.0 * personal * averse_UG[user_J, 1 + item_J % GROUPS]
    split_J = np.tile((np.arange(EVENTS) >= 20).astype(int) + (np.arange(EVENTS) >= 25), USERS)
    rejected_J = rng.random(len(user_J)) < 1 / (1 + np.exp(-odds_J))
    return Judged(np.arange(len(user_J)), user_J, item_J, rejected_J, split_J)


def test_floor_and_residuals_are_those_of_loops():
    one = judged(True)
    floor_J = within_user.item_floor(one, ITEMS)
    group_J = 1 + one.item_J % GROUPS
    found_J = within_user.earlier_residuals(one, floor_J, group_J)
    own_J = within_user.earlier_residuals(one, floor_J)
    residual_J = one.rejected_J - floor_J
    for j in (0, 21, 25, 39, 777, 790):
        known = one.split_J < max(1, one.split_J[j])
        mean = one.rejected_J[known].mean()
        others = known & (one.item_J == one.item_J[j])
        others[j] = False
        expected = (one.rejected_J[others].sum() + 5 * mean) / (others.sum() + 5)
        assert floor_J[j] == pytest.approx(expected)
        before = (one.user_J == one.user_J[j]) & (one.split_J < one.split_J[j])
        assert own_J[j] == pytest.approx(residual_J[before].sum() / (before.sum() + 5))
        same = before & (group_J == group_J[j])
        expected = (residual_J[same] - own_J[j]).sum() / (same.sum() + 5)
        assert found_J[j] == pytest.approx(expected, abs=1e-12)
        assert one.split_J[j] or found_J[j] == 0


def test_periods_begin_with_the_users_first_event_of_the_split():
    log = types.SimpleNamespace(
        user_ids=np.arange(2),
        offsets_U1=np.array([0, 4, 7]),
        split_E=np.array([0, 1, 1, 2, 0, 2, 2]),
    )
    event_J = np.array([0, 2, 3, 6])
    one = Judged(event_J, np.array([0, 0, 0, 1]), event_J, event_J > 0, log.split_E[event_J])
    assert list(period_begins(one, log)) == [0, 1, 3, 5]


def test_surfaces_without_rejections_are_left_out():
    log = types.SimpleNamespace(
        item_E=np.arange(60) % 7,
        surface_E=np.repeat(np.array([0, 1, 2], np.uint8), 20),
        positive_weight_E=np.tile([1.0, 0.0], 30),
        negative_weight_E=np.concatenate([np.zeros(20), np.tile([0.0, 1.0], 20)]),
        split_E=np.zeros(60),
        offsets_U1=np.array([0, 10, 60]),
    )
    log.negative_weight_E[40:] = 0  # of the third surface as well
    one = within_user.judged_events(log)
    assert list(one.event_J) == [e for e in range(20, 40) if e % 7]
    assert set(one.user_J) == {1} and one.rejected_J.sum() == sum(one.event_J % 2)


def test_auc_of_each_user_with_ties():
    one = Judged(*np.array([[0, 1, 2, 3, 4], [0, 0, 0, 1, 1], [1, 2, 3, 4, 5]]), None, None)
    one = one._replace(rejected_J=np.array([1, 0, 0, 1, 1], bool), split_J=np.zeros(5, int))
    found_U = user_aucs(np.array([0.5, 0.5, 0.1, 1, 2]), one, np.ones(5, bool))
    assert found_U[0] == 0.75 and np.isnan(found_U[1])


@pytest.mark.parametrize("personal", [True, False])
def test_only_what_is_personal_is_found(personal):
    one = judged(personal)
    floor_J, test_J = within_user.item_floor(one, ITEMS), one.of("test")
    earlier_J = within_user.earlier_residuals(one, floor_J, 1 + one.item_J % GROUPS)
    x_JF = np.column_stack([log_odds(floor_J), earlier_J])
    score_J = predicted(x_JF, one.rejected_J, one.of("valid"))
    floor_U, auc_U = (user_aucs(x, one, test_J) for x in (log_odds(floor_J), score_J))
    gain, low, high = within_user.difference(auc_U[None], floor_U, 500, 0)
    assert low > 0 if personal else low < 0.005 and abs(gain) < 0.02


@pytest.mark.parametrize(("split", "name"), [(1, "valid"), (2, "test")])
@pytest.mark.parametrize("lacking", [True, False])
def test_both_periods_need_rejected_and_accepted_events(split, name, lacking):
    one = judged(True)
    within_user.require_both_signs(one)
    kept_J = (one.split_J != split) | (one.rejected_J != lacking)
    less = Judged(*(x[kept_J] for x in one))
    with pytest.raises(DataError, match=rf"the {name} period has .*config\.labels\.negative"):
        within_user.require_both_signs(less)
    with pytest.raises(DataError, match="the valid period has 0 rejected and 0 accepted"):
        within_user.require_both_signs(Judged(*(x[:0] for x in one)))


def test_gains_without_an_interval_and_without_a_user():
    floor_U = np.array([0.5, np.nan, 0.7])
    gain, low, high = within_user.difference(floor_U[None] + 0.1, floor_U, 0, 0)
    assert gain == pytest.approx(0.1) and np.isnan([low, high]).all()
    with pytest.raises(DataError, match="no user has both"):
        within_user.difference(floor_U[None], np.full(3, np.nan), 10, 0)
