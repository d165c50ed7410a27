"""Intervals over pairs and seeds, against a plain loop and against paired_bootstrap."""

import numpy as np
import pytest

from negflax.evaluate.bootstrap import paired_bootstrap
from negflax.simulate.pair_bootstrap import Pairs, changes, shares


def values(seeds, spread, pairs=300, seed=0):
    """After and before (1, G, S): a change of −40 % that differs between seeds by `spread`."""
    rng = np.random.default_rng(seed)
    before = rng.binomial(10, 0.3, (1, seeds, pairs)) / 10
    fall = 0.6 + spread * np.linspace(-1, 1, seeds)[None, :, None]
    return rng.binomial((10 * before).astype(int), fall) / 10, before


def test_one_seed_is_the_paired_bootstrap():
    after, before = values(1, 0.0)
    before[0, 0, :20] = after[0, 0, :20] = np.nan  # items of unknown kind
    (row,) = changes([Pairs(after, before)], 2_000, 3)
    expected = paired_bootstrap(after[0, 0], before[0, 0], "mean_ratio", resamples=2_000, seed=3)
    assert [row[f"change{end}"] + 1 for end in ("", "_low", "_high")] == pytest.approx(expected)
    difference = paired_bootstrap(after[0, 0], before[0, 0], resamples=2_000, seed=3)
    assert [row[f"difference{end}"] for end in ("", "_low", "_high")] == pytest.approx(difference)
    assert row["n"] == 280 and row["seeds"] == 1 and row["by_seed"] == [row["change"]]


@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_seeds_widen_the_interval_by_as_much_as_they_differ(spread):
    after, before = values(4, spread)
    (row,) = changes([Pairs(after, before)], 4_000, 0)
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
    after, before = values(2, 0.0)
    (row,) = changes([Pairs(0 * after, 0 * before)], 100, 0)
    assert np.isnan(row["change"]) and row["difference"] == 0


def test_worlds_are_averaged_and_widen_the_interval():
    worlds = [Pairs(*values(2, 0.1, seed=seed)) for seed in (0, 1)]
    (row,) = changes(worlds, 2_000, 0)
    after, before = (np.mean([x[side].mean() for x in worlds]) for side in (0, 1))
    assert row["change"] == pytest.approx(after / before - 1)
    assert len(row["by_seed"]) == 4 and row["worlds"] == 2 and row["n"] == 600
    apart = Pairs(0.5 * worlds[1].after_MGS, worlds[1].before_MGS)
    wide = changes([worlds[0], apart], 2_000, 0)[0]
    assert wide["change_high"] - wide["change_low"] > 2 * (row["change_high"] - row["change_low"])


def test_a_share_is_that_of_the_same_resample():
    """The arm falls by half of what the observer does, for every pair: the share has no spread."""
    rng = np.random.default_rng(0)
    before = rng.binomial(10, 0.3, (1, 1, 300)) / 10
    fall = rng.random((1, 1, 300)) * before
    arm, ceiling = (Pairs(before - part * fall, before) for part in (0.5, 1.0))
    (row,) = shares([arm], [ceiling], 500, 0)
    assert [row[f"share{end}"] for end in ("", "_low", "_high")] == pytest.approx([0.5] * 3)
    (plain,) = changes([ceiling], 500, 0)
    assert row["ceiling"] == pytest.approx(plain["change"])
    assert row["ceiling_low"] == pytest.approx(plain["change_low"], abs=1e-6)
    two = Pairs(*(np.concatenate([x, x], axis=1) for x in arm))  # two seeds that agree
    assert shares([two], [ceiling], 500, 0)[0]["share_low"] == pytest.approx(0.5)


def test_a_share_of_nothing_is_undefined():
    arm = Pairs(*values(1, 0.0))
    (row,) = shares([arm], [Pairs(arm.before_MGS, arm.before_MGS)], 100, 0)
    assert row["ceiling"] == 0 and all(np.isnan(row[f"share{end}"]) for end in ("", "_low"))
