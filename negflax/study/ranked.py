"""Ranks of the judged items (negflax/evaluate/ranking.py), stored and read as metrics.

A study keeps the ranks of a hundred models, without their probabilities and lists.

Shapes: J judged items, R queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from negflax.config import EvalConfig
from negflax.evaluate.metrics import query_values
from negflax.evaluate.protocol import Queries
from negflax.evaluate.ranking import Ranks
from negflax.files import write_arrays

METRICS = ("hr_p", "hr_n", "ndcg_p", "anti_ndcg", "auc")
_STORED = ("greater_J", "ties_J", "eligible_J")
_MODES = {"masked": True, "kept": False}


def _ranks(greater_J: np.ndarray, ties_J: np.ndarray, eligible_J: np.ndarray) -> Ranks:
    """Returns the ranks without probabilities and lists."""
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
    """Returns the ranks that `write_ranks` stored."""
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
