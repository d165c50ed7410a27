"""User × item matrices of a log, to which the item-to-item baselines are fitted.

Shapes: U users, R queries, V catalogue rows, H history events.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from negflax.data import SPLITS, Sequences
from negflax.data.histories import history_events
from negflax.evaluate.protocol import Queries

TIE_BREAK = 1e-6  # weight of relative popularity in a score, far below that of one interaction


def interactions(
    sequences: Sequences, splits: tuple[str, ...], weight_E: np.ndarray
) -> sparse.csr_array:
    """Returns 1 where a user has an event with weight > 0 on an item, else 0; float32 (U, V).

    Args:
      sequences: events of all users.
      splits: splits whose events count.
      weight_E: `sequences.positive_weight_E` or `sequences.negative_weight_E`.
    """
    codes = [SPLITS.index(split) for split in splits]
    counted_E = np.isin(sequences.split_E, codes) & (weight_E > 0) & (sequences.item_E > 0)
    user_E = np.repeat(np.arange(len(sequences.user_ids)), np.diff(sequences.offsets_U1))
    shape = len(sequences.user_ids), sequences.catalogue.num_rows
    return _binary(user_E[counted_E], sequences.item_E[counted_E], shape)


def profiles(
    sequences: Sequences, queries: Queries, weight_E: np.ndarray, decay: float = 1.0
) -> sparse.csr_array:
    """Returns the same for each query's history, all events before the query; float32 (R, V).

    Args:
      sequences: events of all users.
      queries: the queries.
      weight_E: as in `interactions`.
      decay: γ; below 1, an item's entry is γ to the number of events after its last one.
    """
    query_H, event_H = history_events(sequences, queries.user_R, queries.end_R)
    item_H = sequences.item_E[event_H]
    counted_H = (weight_E[event_H] > 0) & (item_H > 0)
    shape = len(queries), sequences.catalogue.num_rows
    profile_RV = _binary(query_H[counted_H], item_H[counted_H], shape)
    if decay < 1:
        age_H = queries.end_R[query_H] - 1 - event_H
        order_H = np.argsort(-age_H, kind="stable")  # the last event of an item is written last
        order_H = order_H[counted_H[order_H]]
        place = _entries(profile_RV, query_H[order_H], item_H[order_H])
        profile_RV.data[place] = np.float32(decay) ** age_H[order_H].astype(np.float32)
    return profile_RV


def tie_break(matrix_UV: sparse.csr_array) -> np.ndarray:
    """Returns popularity scaled so small that it only breaks ties of scores; float32 (V,)."""
    count_V = np.asarray(matrix_UV.sum(axis=0), np.float32)
    return np.float32(TIE_BREAK) * count_V / max(1.0, float(count_V.max()))


def _entries(matrix: sparse.csr_array, row_N: np.ndarray, column_N: np.ndarray) -> np.ndarray:
    """Returns where in `matrix.data` each of these entries is; all of them must exist."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    width = matrix.shape[1]
    return np.searchsorted(rows * width + matrix.indices, row_N * width + column_N)


def _binary(row_N: np.ndarray, item_N: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    found = sparse.csr_array((np.ones(len(row_N), np.float32), (row_N, item_N)), shape=shape)
    found.sum_duplicates()  # sorts the columns of each row as well
    found.data[:] = 1
    return found
