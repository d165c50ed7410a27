"""Calibration of p: the predicted p compared with the observed share, in bins of p.

p(y|s) is the probability that item y is the next liked one. For a query with n liked items, the
observed share is 1/n for each of them and 0 for the rest of the catalogue. If p is calibrated, its
mean over all pairs of a query and an item in a bin equals their mean share. The same is computed
for disliked items; with a good objective with negatives their share lies below p.

Shapes: R queries, J judged items, V catalogue rows, I of a piece of them, C bins of p.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.special import logsumexp

from negflax.config import EvalConfig
from negflax.evaluate.bootstrap import percentile_interval, resampled_means
from negflax.evaluate.protocol import Queries, Scorer, chunks
from negflax.files import plain

EDGES = 10.0 ** np.arange(-8, 0.5, 0.5)  # edges of the bins; the first and last bins are open
MIN_JUDGED = 10  # a bin is shown if it has at least this many judged items of the sign


@dataclasses.dataclass(frozen=True)
class Bin:
    """Pairs of a query and an item whose p lies in one bin.

    Attributes:
      edge: lower end of the bin.
      predicted: mean p.
      observed: mean share, with `low` and `high` of its 95 % user-clustered bootstrap interval.
      n: number of judged items in the bin.
    """

    edge: float
    predicted: float
    observed: float
    low: float
    high: float
    n: int


def calibrate(scorer: Scorer, queries: Queries, config: EvalConfig) -> dict[str, list[Bin]]:
    """Returns bins of the liked (`positive`) and disliked (`negative`) items, by ascending p.

    Args:
      scorer: scorer whose softmax over the catalogue is p.
      queries: queries with judged items; seen items are not masked.
      config: block size, bootstrap resamples and seed.
    """
    parts = [
        _sums(scorer, queries.block(start, start + config.users_per_block))
        for start in range(0, len(queries), config.users_per_block)
    ]
    pairs_RC, p_RC, *signs = (np.concatenate(part) for part in zip(*parts, strict=True))
    found = {}
    for name, (share_RC, judged_RC) in zip(
        ("positive", "negative"), (signs[:2], signs[2:]), strict=True
    ):
        asked_R = judged_RC.sum(axis=1) > 0
        weight_RC = pairs_RC * asked_R[:, None]
        shown = np.flatnonzero(judged_RC.sum(axis=0) >= MIN_JUDGED)
        if not len(shown):
            found[name] = []
            continue
        observed_RC = np.divide(
            share_RC, weight_RC, out=np.zeros_like(share_RC), where=weight_RC > 0
        )
        draws_BC = resampled_means(
            observed_RC[:, shown],
            weight_RC[:, shown],
            resamples=config.bootstrap,
            seed=config.seed,
            user_R=queries.user_R,
        )
        total_C = weight_RC.sum(axis=0)
        found[name] = [
            Bin(
                float(np.append(0, EDGES)[c]),
                float((p_RC * asked_R[:, None])[:, c].sum() / total_C[c]),
                float(share_RC[:, c].sum() / total_C[c]),
                *percentile_interval(draws_B),
                int(judged_RC[:, c].sum()),
            )
            for c, draws_B in zip(shown, draws_BC.T, strict=True)
        ]
    return found


def _sums(scorer: Scorer, block: Queries) -> tuple[np.ndarray, ...]:
    """Returns (R, C) arrays: pairs, Σ p, then for each sign Σ share and number of judged items."""
    scores_RV = scorer(block.without_answers())
    pieces = chunks(scores_RV.shape[1], len(block))
    width = len(EDGES) + 1

    def per_cell(cells: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        counts = np.bincount(cells.ravel(), weights, len(block) * width)
        return counts.reshape(len(block), width).astype(np.float64)

    def piece(rows: slice) -> np.ndarray:
        return np.asarray(scores_RV[:, rows], np.float64)

    lse_R = np.logaddexp.reduce([logsumexp(piece(rows), axis=1) for rows in pieces])
    sums = np.zeros((6, len(block), width))
    for rows in pieces:
        p_RI = np.exp(piece(rows) - lse_R[:, None])
        cell_RI = np.arange(len(block))[:, None] * width + np.searchsorted(EDGES, p_RI, "right")
        sums[0] += per_cell(cell_RI)
        sums[1] += per_cell(cell_RI, p_RI.ravel())
        here_J = (block.judged_item_J >= rows.start) & (block.judged_item_J < rows.stop)
        for sign, sign_J in ((2, block.judged_positive_J), (4, ~block.judged_positive_J)):
            count_R = np.bincount(block.query_J[sign_J], minlength=len(block))
            query_S = block.query_J[sign_J & here_J]
            cell_S = cell_RI[query_S, block.judged_item_J[sign_J & here_J] - rows.start]
            sums[sign] += per_cell(cell_S, 1 / count_R[query_S])
            sums[sign + 1] += per_cell(cell_S)
    return tuple(sums)


def calibration_figures(found: dict[str, list[Bin]]) -> dict[str, float | int | None]:
    """Returns figures by name: `calibration/positive/p=3e-04`, …`_predicted`, `_low`, `_high`.

    What is not defined, as intervals without a bootstrap are, is None.
    """
    figures = {
        f"calibration/{sign}/p={one.edge:.0e}{end}": value
        for sign, bins in found.items()
        for one in bins
        for end, value in (
            ("", one.observed),
            ("_predicted", one.predicted),
            ("_low", one.low),
            ("_high", one.high),
            ("_n", one.n),
        )
    }
    return plain(figures)
