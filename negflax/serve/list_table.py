"""Lists as an Arrow table, with the ids and names of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from negflax.data import Catalogue
from negflax.serve.lists import UserList


def list_table(
    lists: Sequence[UserList],
    catalogue: Catalogue,
    user_ids: np.ndarray | None = None,
    explain: bool = False,
) -> pa.Table:
    """One line for each listed item, by user and rank.

    Args:
      lists: of the users.
      catalogue: of their rows.
      user_ids: id of each user, for a column `user_id`.
      explain: with p, reasons and what was left out (`TrainedRecommender.recommend`).
    """
    length_U = [len(one.rows) for one in lists]
    user_L = np.repeat(np.arange(len(lists)), length_U)
    row_L = np.concatenate([np.zeros(0, np.int32), *(one.rows for one in lists)])
    score_L = np.concatenate([np.zeros(0, np.float32), *(one.scores for one in lists)])
    rank_L = np.concatenate([np.zeros(0, np.int32), *(1 + np.arange(n) for n in length_U)])
    columns: dict[str, Any] = {"rank": pa.array(rank_L, pa.int32())}
    if explain:
        left = [(user, *found) for user, one in enumerate(lists) for found in one.left_out]
        user_L = np.append(user_L, [user for user, *_ in left]).astype(int)
        row_L = np.append(row_L, [row for _, row, _, _ in left])
        score_L = np.append(score_L, [score for _, _, score, _ in left])
        columns["rank"] = pa.array([*rank_L.tolist(), *[None] * len(left)], pa.int32())
    columns["item_id"] = catalogue.ids(row_L)
    columns["score"] = score_L.astype(np.float32)
    if explain:
        lse_U = np.array([one.lse for one in lists])
        columns["p"] = np.exp(score_L - lse_U[user_L]).astype(np.float32)
        reasons = [*[None] * sum(length_U), *(why for *_, why in left)]
        columns["reason"] = pa.array(reasons, pa.string())
    if catalogue.titles is not None:
        columns["title"] = catalogue.titles[row_L.astype(int)]
    if catalogue.cluster_ids is not None and len(catalogue.cluster_ids):
        columns["clusters"] = cluster_names(catalogue, row_L.astype(int))
    if user_ids is not None:
        columns = {"user_id": user_ids[user_L]} | columns
    table = pa.table(columns)
    return table.take(pa.array(np.lexsort((-score_L, user_L)))) if explain else table


def cluster_names(catalogue: Catalogue, row_L: np.ndarray) -> list[str]:
    """Names of the clusters of each row, as `Action|Comedy`; "" for none."""
    names = np.append("", catalogue.cluster_ids.astype(str))
    return ["|".join(names[c] for c in row if c) for row in catalogue.clusters_VC[row_L].tolist()]
