"""Ranks of the judged items, made, stored and turned into what each query says.

A study ranks a hundred models, and needs neither probabilities nor lists: so it counts the scores
above each judged one instead of sorting them all (negflax/evaluate/ranking.py).

Shapes: J judged items, R queries, V catalogue rows, H distinct items of histories.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from negflax.config import EvalConfig
from negflax.data import Sequences
from negflax.data.histories import history_items
from negflax.evaluate.metrics import query_values
from negflax.evaluate.protocol import EvaluationError, Queries, Scorer
from negflax.evaluate.ranking import Ranks
from negflax.files import write_arrays

METRICS = ("hr_p", "hr_n", "ndcg_p", "anti_ndcg", "auc")
_STORED = ("greater_J", "ties_J", "eligible_J")
_MODES = {"masked": True, "kept": False}


def rank(
    scorers: Mapping[str, Scorer], queries: Queries, sequences: Sequences, users_per_block: int
) -> dict[str, dict[bool, Ranks]]:
    """Scorer → ranks by `masked`: seen items taken out of the lists, or kept in them.

    Raises:
      EvaluationError: a score is not finite.
    """
    found: dict[str, dict[bool, list]] = {name: {True: [], False: []} for name in scorers}
    for start in range(0, len(queries), users_per_block):
        block = queries.block(start, start + users_per_block)
        seen_HR = _seen(block, sequences)
        for name, scorer in scorers.items():
            kept, masked = _counts(scorer(block.without_answers()), block, seen_HR, name)
            found[name][False].append(kept)
            found[name][True].append(masked)
    return {
        name: {
            masked: _ranks(*map(np.concatenate, zip(*blocks, strict=True)))
            for masked, blocks in modes.items()
        }
        for name, modes in found.items()
    }


def _seen(block: Queries, sequences: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """(query, item) of the distinct items of each history, by query."""
    query_H, item_H = history_items(sequences, block.user_R, block.end_R)
    width = sequences.catalogue.num_rows
    return np.divmod(np.unique(query_H * width + item_H), width)


def _counts(scores_RV: np.ndarray, block: Queries, seen: tuple, name: str) -> tuple:
    """((greater, ties, eligible) of each judged item with seen items kept, the same masked)."""
    scores_RV = np.asarray(scores_RV, np.float32)[:, 1:]
    row_J, column_J = block.query_J, block.judged_item_J - 1
    score_J = scores_RV[row_J, column_J]
    size = 1 << max(len(row_J) - 1, 255).bit_length()  # few shapes, so few programs

    def padded(values_J):
        return np.pad(values_J, (0, size - len(values_J)))

    greater_J, ties_J, finite = _above(scores_RV, padded(row_J), padded(score_J))
    if not finite:
        raise EvaluationError(f"{name or 'model'}: a score is not finite; the run has diverged")
    greater_J, ties_J = (np.asarray(x)[: len(row_J)] for x in (greater_J, ties_J))
    # Masked: less what the seen items of the same query add to either count.
    query_H, item_H = seen
    first_R, last_R = (
        np.searchsorted(query_H, np.arange(len(block)), side=side) for side in ("left", "right")
    )
    count_J = (last_R - first_R)[row_J]
    judged_P = np.repeat(np.arange(len(row_J)), count_J)  # P pairs of judged and seen item
    within_P = np.arange(len(judged_P)) - np.repeat(np.cumsum(count_J) - count_J, count_J)
    place_P = first_R[row_J][judged_P] + within_P
    seen_P, own_P = scores_RV[query_H, item_H - 1][place_P], score_J[judged_P]

    def per_judged(hit_P):
        return np.bincount(judged_P[hit_P], minlength=len(row_J))

    eligible_J = per_judged(item_H[place_P] - 1 == column_J[judged_P]) == 0
    less = per_judged(seen_P > own_P), per_judged(seen_P == own_P)
    return (
        (greater_J, ties_J, np.ones(len(row_J), bool)),
        (greater_J - less[0], ties_J - less[1], eligible_J),
    )


@jax.jit
def _above(scores_RV, row_J, score_J):
    rows_JV = scores_RV[row_J]
    greater_J = jnp.sum(rows_JV > score_J[:, None], axis=1)
    ties_J = jnp.sum(rows_JV == score_J[:, None], axis=1)
    return greater_J, ties_J, jnp.all(jnp.isfinite(scores_RV))


def _ranks(greater_J: np.ndarray, ties_J: np.ndarray, eligible_J: np.ndarray) -> Ranks:
    """Ranks without probabilities and lists."""
    unknown_J = np.full(len(greater_J), np.nan)
    lists = np.zeros((0, 0), np.int32)
    return Ranks(greater_J, ties_J, unknown_J, unknown_J, eligible_J, lists)


def write_ranks(path: Path, ranks: Mapping[bool, Ranks]) -> None:
    """Stores what lists and AUC are made from as <path>.npz, whole or not at all."""
    arrays = {
        f"{mode}_{field}": np.asarray(getattr(ranks[masked], field))
        for mode, masked in _MODES.items()
        for field in _STORED
    }
    narrow = {k: v if v.dtype == bool else v.astype(np.int32) for k, v in arrays.items()}
    write_arrays(path.with_name(f"{path.name}.npz"), narrow)


def read_ranks(path: Path) -> dict[bool, Ranks]:
    """What `write_ranks` stored."""
    with np.load(path.with_name(f"{path.name}.npz")) as stored:
        arrays = dict(stored)
    return {
        masked: _ranks(*(arrays[f"{mode}_{field}"] for field in _STORED))
        for mode, masked in _MODES.items()
        if f"{mode}_{_STORED[0]}" in arrays
    }


def values(
    ranks: Ranks, queries: Queries, k: int, counted_J: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """METRICS at one K, query by query: float64 (R,), NaN where undefined.

    Args:
      ranks: of the judged items.
      queries: that were ranked.
      k: list length.
      counted_J: bool, the judged items that count; None: all.
    """
    found = query_values(ranks, queries, EvalConfig(ks=(k,), lambdas=(0.0,)), counted_J)
    return {name: found[name if name == "auc" else f"{name}@{k}"].value_R for name in METRICS}
