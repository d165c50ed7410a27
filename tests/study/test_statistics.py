"""Intervals over seeds and users, and what is concluded from them."""

import numpy as np
import pytest

from negflax.evaluate.bootstrap import resampled_means
from negflax.study.statistics import (
    Estimate,
    below,
    dominates,
    estimates,
    front_at,
    scaled,
    worthwhile,
)

SEEDS, USERS, RESAMPLES = 4, 300, 2000


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    a = rng.random((SEEDS, USERS)) + np.arange(SEEDS)[:, None]  # seeds differ far more than users
    a[:, :20] = np.nan
    same = np.tile(rng.random(USERS), (SEEDS, 1))
    values = {"a": a, "same": same, "more": a + 0.1}
    found = estimates(values, resamples=RESAMPLES, seed=1, user_R=np.arange(USERS))
    return values, found


def test_the_value_is_the_mean_of_the_seeds_means(drawn):
    values, found = drawn
    assert found["a"].value == pytest.approx(np.nanmean(values["a"], axis=1).mean())


def test_the_spread_is_that_of_seeds_and_users_together(drawn):
    values, found = drawn
    seeds = np.nanmean(values["a"], axis=1)
    # Variance of a mean over resampled seeds: population variance / S.
    assert found["a"].draws_B.std() == pytest.approx(seeds.std() / np.sqrt(SEEDS), rel=0.1)
    users = values["same"][0].std() / np.sqrt(USERS)
    assert found["same"].draws_B.std() == pytest.approx(users, rel=0.1)


def test_seeds_that_agree_leave_the_users_bootstrap(drawn):
    values, found = drawn
    one = values["same"][:1].T
    plain = resampled_means(one, np.ones_like(one), resamples=RESAMPLES, seed=1)[:, 0]
    np.testing.assert_allclose(found["same"].draws_B, plain, rtol=1e-5)


def test_arms_are_paired_in_users_and_seeds(drawn):
    _, found = drawn
    value, low, high = found["more"].minus(found["a"]).interval()
    np.testing.assert_allclose((value, low, high), 0.1, atol=1e-5)
    assert found["a"].relative(found["a"]).interval() == (0, 0, 0)


def test_different_seeds_are_refused():
    with pytest.raises(ValueError, match="the same seeds"):
        estimates({"a": np.ones((2, 3)), "b": np.ones((1, 3))}, resamples=2, seed=0, user_R=None)


def around(value, half=0.01):
    return Estimate(value, np.linspace(value - half, value + half, 101))


def test_a_front_offers_its_least_hr_n_at_the_hr_p_or_more():
    front = [(around(x), around(2 * x)) for x in (0.3, 0.2, 0.1)]
    assert front_at(around(0.15), front).value == pytest.approx(0.3)
    np.testing.assert_allclose(front_at(around(0.15), front).draws_B, around(0.3).draws_B)
    assert front_at(around(0.9, 0), front).value == pytest.approx(0.6)  # it has no more to offer
    better = [*front, (around(0.4), around(0.05))]  # more HR_p and less HR_n than all before
    assert front_at(around(0.15), better).value == pytest.approx(0.05)
    other = [around(x) for x in (1.0, 2.0, 3.0)]  # read half-way between the last two
    assert front_at(around(0.15), front, other).value == pytest.approx(2.5)
    assert scaled(around(0.2), 0.5).value == pytest.approx(0.1)


def test_a_front_is_a_plain_search_for_each_resample():
    rng = np.random.default_rng(0)
    x, p, n = rng.random(40), rng.random((40, 4)), rng.random((40, 4))
    front = [(Estimate(0, p[:, i]), Estimate(0, n[:, i])) for i in range(4)]
    found = front_at(Estimate(0, x), front).draws_B
    for b in range(40):
        t = np.linspace(0, 1, 20001)[:, None]
        path_p = (p[b, :-1] + t * np.diff(p[b])).ravel()
        path_n = (n[b, :-1] + t * np.diff(n[b])).ravel()
        expected = path_n[path_p >= x[b]].min(initial=np.inf)
        if np.isinf(expected):
            expected = n[b, p[b].argmax()]
        assert found[b] == pytest.approx(expected, abs=1e-3)


def test_worthwhile_is_20_percent_fewer_negatives_for_10_percent_fewer_positives():
    assert below(around(-0.25), -0.2) == "yes"
    assert worthwhile(around(-0.25), around(-0.05)) == "yes"
    assert worthwhile(around(-0.205), around(-0.05)) == "undecided"
    assert worthwhile(around(-0.25), around(-0.105)) == "undecided"
    assert worthwhile(around(-0.1), around(-0.05)) == "no"
    assert worthwhile(around(-0.205), around(-0.2)) == "no"


def test_dominance_wants_one_difference_clear_of_its_interval():
    assert dominates(around(0.02), around(-0.005))
    assert dominates(around(0.005), around(-0.02))
    assert not dominates(around(0.005), around(-0.005))
    assert not dominates(around(0.02), around(0.001))
