"""Intervals over pairs and training seeds, against a plain loop and against paired_bootstrap."""

import numpy as np
import pytest

from negflax.evaluate.bootstrap import paired_bootstrap
from negflax.simulate.measures import changes


def shares(seeds, spread, pairs=300):
    """After and before (1, G, S): a change of −40 % that differs between seeds by `spread`."""
    rng = np.random.default_rng(0)
    before = rng.binomial(10, 0.3, (1, seeds, pairs)) / 10
    fall = 0.6 + spread * np.linspace(-1, 1, seeds)[None, :, None]
    return rng.binomial((10 * before).astype(int), fall) / 10, before


def test_one_seed_is_the_paired_bootstrap():
    after, before = shares(1, 0.0)
    before[0, 0, :20] = after[0, 0, :20] = np.nan  # items of unknown kind
    (row,) = changes(after, before, 2_000, 3)
    expected = paired_bootstrap(after[0, 0], before[0, 0], "mean_ratio", resamples=2_000, seed=3)
    assert [row[f"change{end}"] + 1 for end in ("", "_low", "_high")] == pytest.approx(expected)
    difference = paired_bootstrap(after[0, 0], before[0, 0], resamples=2_000, seed=3)
    assert [row[f"difference{end}"] for end in ("", "_low", "_high")] == pytest.approx(difference)
    assert row["n"] == 280 and row["seeds"] == 1 and row["by_seed"] == [row["change"]]


@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_seeds_widen_the_interval_by_as_much_as_they_differ(spread):
    after, before = shares(4, spread)
    (row,) = changes(after, before, 4_000, 0)
    assert row["change"] == pytest.approx(after.mean() / before.mean() - 1)
    by_seed = after[0].mean(axis=1) / before[0].mean(axis=1) - 1
    assert row["by_seed"] == pytest.approx(by_seed.tolist())
    rng, draws = np.random.default_rng(1), []
    for _ in range(2_000):
        seed, pair = rng.integers(0, 4, 4), rng.integers(0, 300, 300)
        picked = (x[0][np.ix_(seed, pair)].mean() for x in (after, before))
        draws.append(next(picked) / next(picked) - 1)
    assert row["change_low"] == pytest.approx(np.quantile(draws, 0.025), abs=0.012)
    assert row["change_high"] == pytest.approx(np.quantile(draws, 0.975), abs=0.012)
    assert (row["change_high"] - row["change_low"] > 0.15) == (spread > 0)


def test_a_relative_change_from_zero_is_undefined():
    after, before = shares(2, 0.0)
    (row,) = changes(0 * after, 0 * before, 100, 0)
    assert np.isnan(row["change"]) and row["difference"] == 0
