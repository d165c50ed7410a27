"""Changes over replicates and over users: a worked interval, coverage, and what is undefined."""

import numpy as np
import pytest

from negflax.simulate.live.changes import by_half, changes, mean_level, over_replicates
from negflax.simulate.live.user_metrics import METRICS, Sums


def sums(numerator_U, curve_D=(1.0, 2.0)):
    numerator_U = np.asarray(numerator_U, float)
    return Sums(
        {metric: numerator_U for metric in METRICS},
        {metric: np.ones_like(numerator_U) for metric in METRICS},
        {"dislike_rate": np.asarray(curve_D, float)},
    )


def test_worked_interval():
    # Log ratios −.1, −.2, −.3: mean −.2, sd .1, t(.975; 2) = 4.302653, half .1/√3·t = .248414.
    found = over_replicates(np.exp([-0.1, -0.2, -0.3]))
    np.testing.assert_allclose(found[:3], [-0.181269, -0.361360, 0.049605], atol=1e-6)
    np.testing.assert_allclose(found.by_seed, [-0.095163, -0.181269, -0.259182], atol=1e-6)
    assert over_replicates([1.0, 1.0]) == (0.0, 0.0, 0.0, (0.0, 0.0))


def test_intervals_cover():
    rng = np.random.default_rng(0)
    found = [over_replicates(np.exp(rng.normal(-0.1, 0.05, 5))) for _ in range(1_000)]
    covered = np.mean([one.low <= np.expm1(-0.1) <= one.high for one in found])
    assert 0.93 < covered < 0.97


@pytest.mark.parametrize(
    ("ratios", "value"), [([0.5], -0.5), ([0.0, 0.5], -1.0), ([np.nan, 0.5], np.nan)]
)
def test_no_interval(ratios, value):
    found = over_replicates(ratios)
    np.testing.assert_equal(found.value, value)
    assert np.isnan(found.low) and np.isnan(found.high)


def test_one_replicate_resamples_users_and_several_replicates_vary():
    rng = np.random.default_rng(1)
    base = [rng.integers(1, 9, 50).astype(float) for _ in range(3)]
    replicates = [{"a": sums(0.8 * x), "b": sums(x), "c": sums(x[::-1])} for x in base]
    one = changes(replicates[:1], [("a", "b"), ("c", "b")])
    exact = one["a", "b"]["viewers"]  # paired: 20 % less for every user, so no width
    np.testing.assert_allclose(exact[:3], -0.2, atol=1e-6)
    luck = one["c", "b"]["viewers"]  # other users have what these have: no change, but a width
    assert luck.value == pytest.approx(0) and luck.low < -0.05 < 0.05 < luck.high
    many = changes(replicates, [("a", "b")])["a", "b"]["viewers"]
    np.testing.assert_allclose(many[:3], -0.2, atol=1e-9)
    assert len(many.by_seed) == 3
    assert mean_level(replicates, "a", "viewers") == pytest.approx(
        np.mean([0.8 * x.mean() for x in base])
    )


def test_halves_of_the_days():
    control, arm = sums([1.0], [2, 2, 4, np.nan, 4]), sums([1.0], [1, 3, 2, 2, 2])
    found = by_half([{"a": arm, "b": control}] * 2, [("a", "b")])["a", "b"]
    assert found["dislike_rate, first half"].value == pytest.approx(0)
    assert found["dislike_rate, second half"].value == pytest.approx(-0.5)
