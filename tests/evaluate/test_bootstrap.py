"""User-clustered bootstrap."""

import numpy as np
import pytest

from negflax.evaluate import interval, paired_bootstrap
from negflax.evaluate.bootstrap import holm, p_value, percentile_interval, resampled_means


def test_interval_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        _, low, high = interval(rng.exponential(size=200), resamples=400, seed=trial)
        covered += low <= 1 <= high
    assert 178 <= covered <= 199


def test_mean_and_width_match_theory():
    values = np.random.default_rng(1).normal(3, 2, 4000)
    estimate, low, high = interval(values, resamples=2000, seed=0)
    error = values.std() / np.sqrt(len(values))
    assert estimate == pytest.approx(values.mean())
    assert (high - low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.08)


def test_pairing_removes_the_variance_between_users():
    rng = np.random.default_rng(2)
    shared = rng.normal(0, 10, 500)
    a, b = shared + 1 + rng.normal(0, 0.1, 500), shared
    estimate, low, high = paired_bootstrap(a, b, resamples=500, seed=0)
    assert low < estimate < high and estimate == pytest.approx(1, abs=0.05)
    assert high - low < 0.05


def test_ratio_of_means_and_undefined_users():
    a = np.array([1.0, 2.0, np.nan, 3.0] * 100)
    b = np.array([1.0, np.nan, 1.0, 1.0] * 100)
    estimate, low, high = paired_bootstrap(a, b, "mean_ratio", resamples=300, seed=0)
    assert estimate == pytest.approx(2) and low < 2 < high
    assert paired_bootstrap(b, b, "mean_ratio", resamples=50, seed=0) == pytest.approx((1, 1, 1))
    assert paired_bootstrap(a, a, resamples=50, seed=0) == (0, 0, 0)


def test_weights_give_the_micro_mean():
    estimate, low, high = interval(
        np.array([0.5, 1.0, np.nan]), np.array([2.0, 4.0, 9.0]), resamples=200, seed=0
    )
    assert estimate == pytest.approx(5 / 6)
    assert (low, high) == (0.5, 1.0)


def test_nothing_defined_and_a_vanishing_denominator():
    nothing = np.full(5, np.nan)
    assert np.isnan(interval(nothing, resamples=20, seed=0)).all()
    estimate, low, high = paired_bootstrap(
        np.ones(50), np.zeros(50), "mean_ratio", resamples=20, seed=0
    )
    assert estimate == low == high == np.inf
    assert np.isnan(percentile_interval(np.array([np.nan]))).all()


def test_chunks_draw_the_same_users_and_columns_share_them(monkeypatch):
    values = np.random.default_rng(3).random((50, 2))
    values = values[:, [0, 1, 0]]
    weights = np.ones_like(values)
    whole = resampled_means(values, weights, resamples=40, seed=5)
    monkeypatch.setattr("negflax.evaluate.bootstrap._CHUNK", 350)
    np.testing.assert_allclose(resampled_means(values, weights, resamples=40, seed=5), whole, 1e-6)
    np.testing.assert_array_equal(whole[:, 0], whole[:, 2])


def test_bad_calls():
    with pytest.raises(ValueError, match="choose mean_difference or mean_ratio"):
        paired_bootstrap(np.ones(2), np.ones(2), "median", resamples=2, seed=0)
    with pytest.raises(ValueError, match="for the same queries"):
        paired_bootstrap(np.ones(2), np.ones(3), resamples=2, seed=0)


def test_queries_of_a_user_are_drawn_together():
    rng = np.random.default_rng(4)
    user = rng.normal(size=300)
    values, owner = np.repeat(user, 4), np.repeat(np.arange(300), 4)
    shuffle = rng.permutation(len(values))
    clustered = interval(values[shuffle], resamples=2000, seed=0, user_R=owner[shuffle])
    assert clustered == pytest.approx(interval(user, resamples=2000, seed=0), abs=1e-6)
    _, low, high = interval(values, resamples=2000, seed=0)  # taken for 1,200 users
    assert high - low < 0.6 * (clustered[2] - clustered[1])


def test_a_ratio_of_sums_agrees_with_drawing_users_with_replacement():
    rng = np.random.default_rng(5)
    size = rng.integers(1, 9, 400).astype(float)
    share = rng.beta(2, 5, 400)
    _, low, high = interval(share, size, resamples=4000, seed=0)
    users = rng.integers(0, 400, (4000, 400))
    draws = (share * size)[users].sum(1) / size[users].sum(1)
    expected = np.quantile(draws, (0.025, 0.975))
    assert (low, high) == pytest.approx(expected, abs=0.1 * (expected[1] - expected[0]))


def test_p_values():
    rng = np.random.default_rng(6)
    assert p_value(rng.normal(1.96, 1, 100_000)) == pytest.approx(0.05, abs=0.005)
    assert p_value(np.ones(99)) == p_value(-np.ones(99)) == pytest.approx(2 / 100)
    assert p_value(np.zeros(10)) == 1 and np.isnan(p_value(np.array([np.nan])))


def test_holm():
    adjusted = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    expected = [0.03, 0.06, np.nan, 0.06, 0.02]  # by hand: 3·.01, max(.06, .04), –, 2·.03, 4·.005
    np.testing.assert_allclose(adjusted, expected)
    assert holm(np.array([0.9, 0.8])).tolist() == [1, 1]
    assert len(holm(np.array([]))) == 0 and np.isnan(holm(np.array([np.nan]))).all()
