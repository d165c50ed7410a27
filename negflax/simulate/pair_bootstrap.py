"""Relative changes of means, with intervals over pairs, training seeds and seeds of the world.

A resample draws pairs, the same ones for all training seeds and measures of a world; training
seeds, if there are several, as both are samples (a crossed bootstrap: Owen 2007); and worlds, if
there are several. With few seeds it underestimates their part of the variance, of G seeds by the
factor (G − 1) / G.

Shapes: S pairs, G training seeds, M measures, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from negflax.evaluate.bootstrap import percentile_interval, ratio, resampled_means

ENDS = ("", "_low", "_high")


class Pairs(NamedTuple):
    """Values of one world, with the feedback and without it; NaN if undefined.

    Attributes:
      after_MGS: with it.
      before_MGS: without it.
    """

    after_MGS: np.ndarray
    before_MGS: np.ndarray


class Resampled(NamedTuple):
    """Means with and without the feedback: the estimates, and their draws."""

    after_M: np.ndarray
    before_M: np.ndarray
    after_BM: np.ndarray
    before_BM: np.ndarray

    @property
    def change_M(self) -> np.ndarray:
        """Relative changes; NaN or infinite from 0."""
        return ratio(self.after_M, self.before_M) - 1

    @property
    def change_BM(self) -> np.ndarray:
        """Their draws."""
        return ratio(self.after_BM, self.before_BM) - 1


def resample(worlds: Sequence[Pairs], resamples: int, seed: int) -> Resampled:
    """Returns the means over pairs, training seeds and worlds, and B draws of them."""
    rng, means_2WM, draws_2WBM = np.random.default_rng(seed), ([], []), ([], [])
    for number, world in enumerate(worlds):
        both = np.stack(world)
        *shape, pairs = both.shape
        columns_SC = both.reshape(-1, pairs).T
        defined_SC = (~np.isnan(columns_SC)).astype(np.float64)
        draws = resampled_means(columns_SC, defined_SC, resamples=resamples, seed=seed + number)
        seeds = shape[-1]
        drawn_BG = rng.multinomial(seeds, [1 / seeds] * seeds, resamples)
        drawn_2BM = np.einsum("bamg,bg->abm", draws.reshape(-1, *shape), drawn_BG / seeds)
        for side, mean_MG in enumerate(_means(both)):
            means_2WM[side].append(mean_MG.mean(axis=1))
            draws_2WBM[side].append(drawn_2BM[side])
    count = len(worlds)
    drawn_BW = rng.multinomial(count, [1 / count] * count, resamples) / count
    after, before = (np.einsum("wbm,bw->bm", np.stack(x), drawn_BW) for x in draws_2WBM)
    return Resampled(*(np.mean(x, axis=0) for x in means_2WM), after, before)


def changes(worlds: Sequence[Pairs], resamples: int, seed: int) -> list[dict[str, Any]]:
    """Returns relative changes and differences of means, with 95 % intervals, one row a measure."""
    found, rows = resample(worlds, resamples, seed), []
    by_seed_MG = np.concatenate([ratio(*_means(np.stack(x))) - 1 for x in worlds], axis=1)
    defined_M = sum(np.isfinite(x.before_MGS).all(axis=1).sum(axis=1) for x in worlds)
    for m, change in enumerate(found.change_M):
        after, before = found.after_M[m], found.before_M[m]
        row = {"change": float(change)} | _ends("change", found.change_BM[:, m])
        row |= {"difference": float(after - before)}
        row |= _ends("difference", found.after_BM[:, m] - found.before_BM[:, m])
        row |= {"before": float(before), "after": float(after), "n": int(defined_M[m])}
        row |= {"seeds": max(x.after_MGS.shape[1] for x in worlds), "worlds": len(worlds)}
        rows.append(row | {"by_seed": [float(x) for x in by_seed_MG[m]]})
    return rows


def shares(
    arms: Sequence[Pairs], ceilings: Sequence[Pairs], resamples: int, seed: int
) -> list[dict[str, float]]:
    """Returns responsiveness as a share of the ideal observer's, one row a measure.

    Args:
      arms: values of the arm, one per world.
      ceilings: those of the observer, for the same pairs, with one training seed.
      resamples: number of resamples B.
      seed: seed of the bootstrap.

    Returns:
      Rows with `ceiling` and `share`, each with `_low` and `_high`. A share of a ceiling that is
      exactly 0 is NaN.
    """
    joined = []
    for arm, ceiling in zip(arms, ceilings, strict=True):
        repeat = arm.after_MGS.shape[1]
        joined.append(
            Pairs(
                *(
                    np.concatenate([x, y.repeat(repeat, 1)])
                    for x, y in zip(arm, ceiling, strict=True)
                )
            )
        )
    found, rows = resample(joined, resamples, seed), []
    half = len(found.change_M) // 2
    with np.errstate(divide="ignore", invalid="ignore"):
        share_M = found.change_M[:half] / found.change_M[half:]
        share_BM = found.change_BM[:, :half] / found.change_BM[:, half:]
    for m in range(half):
        nothing = found.change_M[half + m] == 0
        row = {"ceiling": float(found.change_M[half + m])}
        row |= _ends("ceiling", found.change_BM[:, half + m])
        row |= {"share": np.nan if nothing else float(share_M[m])}
        rows.append(row | _ends("share", share_BM[:, m] * (np.nan if nothing else 1)))
    return rows


def _means(both_2MGS: np.ndarray) -> np.ndarray:
    """Returns the means over the pairs for which a measure is defined, (2, M, G)."""
    with np.errstate(invalid="ignore"):
        return ratio(np.nansum(both_2MGS, axis=-1), (~np.isnan(both_2MGS)).sum(axis=-1))


def _ends(name: str, draws_B: np.ndarray) -> dict[str, float]:
    low, high = percentile_interval(draws_B)
    return {f"{name}_low": low, f"{name}_high": high}
