"""A catalogue that takes in new items: those it has keep their rows, new ones get reserved rows.

Shapes: V rows of the old catalogue, W of the grown one, D items of the day.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from absl import logging

from negflax.data.catalogue import Catalogue
from negflax.data.cells import DataError


def grow(known: Catalogue, day: Catalogue, reserved: int) -> Catalogue:
    """The items of `known` in their rows, and behind them those that only `day` has.

    New items take reserved rows in the order of `day`, and the tables keep their size. An item that
    the day lacks stays an item: it can be listed, and come back. What the day says of an item
    replaces what was known. Creators and clusters keep their numbers; new ones follow.

    Args:
      known: the catalogue of the run that is carried on.
      day: the catalogue of the new log alone.
      reserved: rows that are reserved anew where too few are left; the tables are then larger than
        before, which is logged.

    Returns:
      The grown catalogue, with train_count_V 0.

    Raises:
      DataError: the numbers of buckets differ, or `known` was written before catalogues held the
        ids of creators.
    """
    if day.bucket_rows != known.bucket_rows:
        raise DataError(
            f"config.data.hash_buckets = {day.bucket_rows}, but the catalogue to start from has "
            f"{known.bucket_rows}: keep that number"
        )
    row_D = known.rows(day.item_ids)
    new_D = row_D == 0
    row_D[new_D] = known.num_rows + np.arange(new_D.sum())
    size, left = known.num_rows + int(new_D.sum()), known.reserved_rows - int(new_D.sum())
    if left < 0:
        left = reserved
        logging.warning(
            "%d new items, but only %d reserved rows are left: the tables grow from %d to %d rows, "
            "and the step is compiled again",
            new_D.sum(),
            known.reserved_rows,
            known.table_rows,
            size + left + known.bucket_rows,
        )

    def by_row(old: np.ndarray | None, new: np.ndarray | None, unknown: Any) -> np.ndarray | None:
        """(W,) the new value where there is one, else the old one."""
        if old is None and new is None:
            return None
        kind = np.result_type(*[x for x in (old, new) if x is not None])
        found_W = np.full(size, unknown, kind)
        if old is not None:
            found_W[: len(old)] = old
        if new is not None:
            told_D = (new[1:] != unknown) & (new[1:] == new[1:])  # NaN tells nothing
            found_W[row_D[told_D]] = new[1:][told_D]
        return found_W

    creator_ids, creator_of = _joined(known.creator_ids, day.creator_ids)
    cluster_ids, cluster_of = _joined(known.cluster_ids, day.cluster_ids)
    clusters_DC = cluster_of[day.clusters_VC[1:]]
    told_D = clusters_DC.any(axis=1)
    width = max(known.clusters_VC.shape[1], clusters_DC.shape[1])
    clusters_WC = np.zeros((size, width), np.int32)
    clusters_WC[: known.num_rows, : known.clusters_VC.shape[1]] = known.clusters_VC
    clusters_WC[row_D[told_D]] = 0
    clusters_WC[row_D[told_D], : clusters_DC.shape[1]] = clusters_DC[told_D]
    return Catalogue(
        item_ids=_one_after_the_other(known.item_ids, day.item_ids[new_D]),
        creator_V=by_row(known.creator_V, creator_of[day.creator_V], 0),
        clusters_VC=clusters_WC,
        train_count_V=np.zeros(size, np.int64),
        titles=by_row(known.titles, day.titles, ""),
        duration_V=by_row(known.duration_V, day.duration_V, np.nan),
        vector_VW=_vectors(known.vector_VW, day.vector_VW, row_D, size),
        creator_ids=creator_ids,
        cluster_ids=cluster_ids,
        reserved_rows=left,
        bucket_rows=known.bucket_rows,
    )


def _vectors(
    known: np.ndarray | None, day: np.ndarray | None, row_D: np.ndarray, size: int
) -> np.ndarray | None:
    """(W, width) given vectors: the day's where an item has one there, else the known one."""
    widths = {x.shape[1] for x in (known, day) if x is not None}
    if len(widths) > 1:
        raise DataError(
            f"item vectors have {day.shape[1]} values, and those of the catalogue to start from "
            f"{known.shape[1]}: give vectors of the same model, or train anew"
        )
    if not widths:
        return None
    found = np.zeros((size, widths.pop()), np.float32)
    if known is not None:
        found[: len(known)] = known
    if day is not None:
        told_D = day[1:].any(axis=1)
        found[row_D[told_D]] = day[1:][told_D]
    return found


def _one_after_the_other(known: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The ids of both, as text where some are: 17 and "17" are one id (Catalogue.rows)."""
    if len(new) and known.dtype.kind != new.dtype.kind:
        known, new = known.astype(str), new.astype(str)
    return np.concatenate([known, new]) if len(new) else known


def _joined(known: np.ndarray | None, day: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(ids of both, the known ones first; number there of each of the day's numbers, 0 of 0)."""
    if known is None or day is None:
        raise DataError(
            "the catalogue to start from has no ids of creators and clusters, as it was written by "
            "an earlier version: set config.data.reserved_items = 0, or train the first run again"
        )
    if known.dtype.kind != day.dtype.kind:  # numbers and text
        known, day = known.astype(str), day.astype(str)
    numbers = {one: i + 1 for i, one in enumerate(known.tolist())}
    found = [numbers.setdefault(one, len(numbers) + 1) for one in day.tolist()]
    return np.array(list(numbers), np.result_type(known, day)), np.array([0, *found], np.int32)
