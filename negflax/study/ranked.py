"""Ranks of the judged items on disk, and what each request says: all that the study's tables need.

Shapes: J judged items, R requests.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from negflax.config import EvalConfig
from negflax.evaluate.metrics import request_values
from negflax.evaluate.protocol import Requests
from negflax.evaluate.ranking import Ranks

METRICS = ("hr_p", "hr_n", "ndcg_p", "anti_ndcg", "auc")
_STORED = ("greater_J", "ties_J", "eligible_J")
_MODES = {"masked": True, "kept": False}


def write_ranks(path: Path, ranks: Mapping[bool, Ranks]) -> None:
    """Stores what lists and AUC are made from as <path>.npz, whole or not at all."""
    arrays = {
        f"{mode}_{field}": np.asarray(getattr(ranks[masked], field))
        for mode, masked in _MODES.items()
        if masked in ranks
        for field in _STORED
    }
    narrow = {k: v if v.dtype == bool else v.astype(np.int32) for k, v in arrays.items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.npz")
    np.savez(temporary, **narrow)
    os.replace(temporary, path.with_name(f"{path.name}.npz"))


def read_ranks(path: Path) -> dict[bool, Ranks]:
    """What `write_ranks` stored; without probabilities and lists."""
    with np.load(path.with_name(f"{path.name}.npz")) as stored:
        arrays = dict(stored)
    found, no_lists = {}, np.zeros((0, 0), np.int32)
    for mode, masked in _MODES.items():
        if f"{mode}_{_STORED[0]}" not in arrays:
            continue
        greater_J, ties_J, eligible_J = (arrays[f"{mode}_{field}"] for field in _STORED)
        log_J = np.zeros(len(greater_J))
        found[masked] = Ranks(greater_J, ties_J, log_J, log_J, eligible_J, no_lists)
    return found


def values(
    ranks: Ranks, requests: Requests, k: int, counted_J: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """METRICS at one K, request by request: float64 (R,), NaN where undefined.

    Args:
      ranks: of the judged items.
      requests: that were ranked.
      k: list length.
      counted_J: bool, the judged items that count; None: all.
    """
    found = request_values(ranks, requests, EvalConfig(ks=(k,), lambdas=(0.0,)), counted_J)
    return {name: found[name if name == "auc" else f"{name}@{k}"].value_R for name in METRICS}
