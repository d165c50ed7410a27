"""The catalogue: original item ids ↔ rows of the item table, and what is known about each item."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from negflax.data.cells import DataError
from negflax.data.columns import factorize, flat, floats, is_list, is_text, spelled, values
from negflax.data.features import NUM_VALUES
from negflax.files import write_arrays

INTEGER = r"^(0|-?[1-9]\d{0,18})$"
_OF_BROKEN_FILES = (ValueError, TypeError, EOFError, OSError, LookupError, RuntimeError)
BY_ROW = ("creator_V", "clusters_VC", "train_count_V", "titles", "duration_V", "vector_VW")


@dataclasses.dataclass(frozen=True, eq=False)
class Catalogue:
    """Items of the vocabulary. Row 0 is the padding, the start of a user and the unknown item.

    Rows from `num_rows` on are no items: `reserved_rows` of them wait in the tables for new ones
    (negflax/data/vocabulary_growth.py), and the last `bucket_rows` stand for items outside the
    vocabulary.

    Attributes:
      item_ids: (n,) original ids, int64 or text, distinct; item_ids[i] is row i + 1.
      creator_V: (n+1,) int32 number of the item's creator, 0 unknown.
      clusters_VC: (n+1, C) int32 numbers of its clusters in the order given, 0 padding.
      train_count_V: (n+1,) int64 events in the training period.
      titles: (n+1,) text, "" unknown; None where the source has none.
      duration_V: (n+1,) float64 milliseconds, NaN unknown; None where the item table has none.
      vector_VW: (n+1, W) float32 given vectors, 0 unknown; None where the item table has none.
      creator_ids: original id of creator number i + 1 at i; None: not known.
      cluster_ids: the same of clusters.
      reserved_rows: rows that the item tables have behind those of the items.
      bucket_rows: rows behind these that other items share as inputs (`buckets`).
    """

    item_ids: np.ndarray
    creator_V: np.ndarray
    clusters_VC: np.ndarray
    train_count_V: np.ndarray
    titles: np.ndarray | None = None
    duration_V: np.ndarray | None = None
    vector_VW: np.ndarray | None = None
    creator_ids: np.ndarray | None = None
    cluster_ids: np.ndarray | None = None
    reserved_rows: int = 0
    bucket_rows: int = 0

    @property
    def num_rows(self) -> int:
        """V: rows of the items, with row 0."""
        return len(self.item_ids) + 1

    @property
    def table_rows(self) -> int:
        """Rows of the item tables: V, the reserved ones and the buckets."""
        return self.num_rows + self.reserved_rows + self.bucket_rows

    @property
    def num_creators(self) -> int:
        """Creator numbers, with 0."""
        return int(self.creator_V.max()) + 1

    @property
    def num_clusters(self) -> int:
        """Cluster numbers, with 0."""
        return int(self.clusters_VC.max()) + 1

    @property
    def feature_sizes(self) -> dict[str, int]:
        """Number of values of each event feature, with 0: the rows of its embedding."""
        return NUM_VALUES | {"creator": self.num_creators, "cluster": self.num_clusters}

    @property
    def fingerprint(self) -> int:
        """CRC-32 of the ids in their order: equal for catalogues whose rows are the same items.

        Ids that are numbers in one and text in the other give other values.
        """
        numbers = self.item_ids.dtype.kind in "iu"
        if numbers:
            return zlib.crc32(self.item_ids.astype("<i8").tobytes())
        lines = self.item_ids
        if any("\n" in one for one in lines):  # else "a\nb" would read as two ids
            lines = [f"{len(one)}:{one}" for one in lines]
        return zlib.crc32("\n".join(lines).encode())

    def has_rows_of(self, other: Catalogue) -> bool:
        """Whether every row that events can name, an item's or a bucket, means the same."""
        buckets = [(one.bucket_rows, one.bucket_rows and one.table_rows) for one in (self, other)]
        if len(self.item_ids) != len(other.item_ids) or buckets[0] != buckets[1]:
            return False
        return np.array_equal(self.rows(other.item_ids), np.arange(1, self.num_rows))

    def rows(self, ids: Any) -> np.ndarray:
        """Rows int32 of original ids, 0 unknown; 17, "17" and "17.0" are one id, "017" another."""
        ids, known = spelled(np.asarray(ids)), self._known
        if ids.size == 0 or known.size == 0:
            return np.zeros(ids.shape, np.int32)
        if (ids.dtype.kind in "iu") != (known.dtype.kind in "iu"):
            if known.dtype.kind in "iu":
                numbers, written = _as_numbers(ids)
                return np.where(written, self.rows(numbers), 0).astype(np.int32)
            ids = ids.astype(str)
        place = np.searchsorted(known, ids, sorter=self._by_id)
        index = self._by_id[np.minimum(place, len(known) - 1)]
        return np.where(known[index] == ids, index + 1, 0).astype(np.int32)

    def buckets(self, ids: np.ndarray) -> np.ndarray:
        """Rows int32 that stand for ids outside the vocabulary: CRC-32 of the text of the id.

        The id 17 and the text `17` share a bucket, in every process and on every machine.
        """
        texts = map(str, spelled(ids).tolist())
        hash_I = np.array([zlib.crc32(one.encode()) for one in texts], np.int64)
        return (self.table_rows - self.bucket_rows + hash_I % self.bucket_rows).astype(np.int32)

    @functools.cached_property
    def _known(self) -> np.ndarray:
        return spelled(self.item_ids)  # earlier versions kept 17.0 beside text ids

    @functools.cached_property
    def _by_id(self) -> np.ndarray:
        return np.argsort(self._known, kind="stable")

    def reordered(self, order_I: np.ndarray) -> Catalogue:
        """The same items in other rows: item order_I[i] of this one gets row i + 1."""
        row_V = np.append(0, order_I + 1)
        by_row = {name: getattr(self, name) for name in BY_ROW}
        rows = {name: None if x is None else x[row_V] for name, x in by_row.items()}
        return dataclasses.replace(self, item_ids=self.item_ids[order_I], **rows)

    def ids(self, rows: Any) -> np.ndarray:
        """Original ids of rows 1..n.

        Raises:
          DataError: a row outside the catalogue, row 0 included, which is no item.
        """
        rows = np.asarray(rows, np.int64)
        if rows.size and (rows.min() < 1 or rows.max() >= self.num_rows):
            raise DataError(f"items have rows 1 to {self.num_rows - 1}; row 0 is not an item")
        return self.item_ids[rows - 1]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an .npz without pickle; the file appears whole or not at all."""
        names = [field.name for field in dataclasses.fields(self)]
        arrays = {k: getattr(self, k) for k in names if getattr(self, k) is not None}
        write_arrays(path, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Catalogue:
        """Reads what `save` wrote.

        Raises:
          DataError: there is no such file, or it is no catalogue or cut short.
        """
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
                fields = {name: file[name] for name in file.files}
                rows = {k: int(fields.get(k, 0)) for k in ("reserved_rows", "bucket_rows")}
                return cls(**fields | rows)
        except FileNotFoundError as error:
            raise DataError(f"{path} does not exist: it holds the items of the run") from error
        except (*_OF_BROKEN_FILES, zipfile.BadZipFile, zlib.error, struct.error) as error:
            raise DataError(
                f"{path} is not a complete catalogue ({error}): delete it, and repeat the training "
                "command of the run, which writes it again"
            ) from error


def _as_numbers(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(text ids as int64, 0 where they are none; where they are, written as an integer is)."""
    flat_ids = pa.array(ids.ravel().tolist(), pa.string())
    written = pc.match_substring_regex(flat_ids, INTEGER)
    numbers = pc.cast(pc.if_else(written, flat_ids, "0"), pa.float64()).to_numpy()
    inside = written.to_numpy(zero_copy_only=False) & (np.abs(numbers) < 2.0**63)
    exact = pc.cast(pc.if_else(pa.array(inside), flat_ids, "0"), pa.int64()).to_numpy()
    return exact.reshape(ids.shape), inside.reshape(ids.shape)


def spread(count_I: np.ndarray) -> np.ndarray:
    """An order of items in which every block of consecutive rows has its share of popular ones.

    Shards hold such blocks. The item of popularity rank r goes to place r·step mod n, with step
    near n/φ: by the three-gap theorem the r most popular items then lie almost evenly over the
    places, whatever r and however many shards there are.

    Args:
      count_I: (n,) events of each item.

    Returns:
      (n,) the item at each place, for `Catalogue.reordered`.
    """
    n, order_I = len(count_I), np.empty(len(count_I), np.int64)
    step = max(1, round(n * (math.sqrt(5) - 1) / 2))
    while math.gcd(step, n) > 1:
        step += 1
    order_I[np.arange(n, dtype=np.int64) * step % max(1, n)] = np.argsort(-count_I, kind="stable")
    return order_I


def build_catalogue(item_ids: np.ndarray, events: pa.Table, items: pa.Table | None) -> Catalogue:
    """A catalogue of the given ids, described by the item table or else by the events.

    Args:
      item_ids: (n,) sorted distinct ids.
      events: validated events; their creator_id and cluster_ids fill what the items lack.
      items: validated item table or None.

    Returns:
      The catalogue, with train_count_V still 0.
    """
    num_rows = len(item_ids) + 1
    zeros_V = np.zeros(num_rows, np.int64)
    blank = Catalogue(item_ids, zeros_V, zeros_V[:, None], zeros_V)
    tables = [
        (table, blank.rows(values(table["item_id"])))
        for table in (items, events)
        if table is not None
    ]
    creator_VC, creator_ids = _attribute(tables, "creator_id", num_rows)
    clusters_VC, cluster_ids = _attribute(tables, "cluster_ids", num_rows)
    return Catalogue(
        item_ids=item_ids,
        creator_V=creator_VC[:, 0],
        clusters_VC=clusters_VC,
        train_count_V=zeros_V,
        titles=_titles(items, tables[0][1], num_rows),
        duration_V=_durations(items, tables[0][1], num_rows),
        vector_VW=_vectors(items, tables[0][1], num_rows),
        creator_ids=creator_ids,
        cluster_ids=cluster_ids,
    )


def describing(events: pa.Table) -> pa.Table:
    """The few events that `build_catalogue` reads: each item's first with a creator, a cluster.

    Args:
      events: validated events, or several results of this function one after the other.

    Returns:
      Their columns item_id, creator_id and cluster_ids, where the log has them.
    """
    names = [n for n in ("creator_id", "cluster_ids") if n in events.column_names]
    events = events.select(["item_id", *names])
    if not names:
        return events.schema.empty_table()  # a slice would hold the events in memory
    item_E, _ = factorize(events["item_id"])
    first = []
    for name in names:
        column = flat(events[name])
        parent = np.arange(len(column))
        if is_list(column.type):
            parent = pc.list_parent_indices(column).to_numpy()
            column = pc.list_flatten(column)
        parent = parent[pc.is_valid(column).to_numpy(zero_copy_only=False)]
        first.append(parent[np.unique(item_E[parent], return_index=True)[1]])
    return events.take(np.unique(np.concatenate(first)))


def _titles(items: pa.Table | None, row_I: np.ndarray, num_rows: int) -> np.ndarray | None:
    if items is None or "title" not in items.column_names:
        return None
    title_I = flat(items["title"]).fill_null("").to_numpy(zero_copy_only=False).astype(str)
    titles = np.full(num_rows, "", title_I.dtype)
    titles[row_I] = title_I
    titles[0] = ""
    return titles


def _durations(items: pa.Table | None, row_I: np.ndarray, num_rows: int) -> np.ndarray | None:
    if items is None or "duration_ms" not in items.column_names:
        return None
    duration_V = np.full(num_rows, np.nan)
    duration_V[row_I] = floats(items["duration_ms"])
    duration_V[0] = np.nan
    return duration_V


def _vectors(items: pa.Table | None, row_I: np.ndarray, num_rows: int) -> np.ndarray | None:
    """The given vectors of the items; validated lists have one length, and no nulls in them."""
    if items is None or "item_vector" not in items.column_names:
        return None
    column = flat(items["item_vector"])
    known = pc.is_valid(column).to_numpy(zero_copy_only=False)
    values_KW = column.flatten().to_numpy().reshape(int(known.sum()), -1)
    vector_VW = np.zeros((num_rows, values_KW.shape[1]), np.float32)
    vector_VW[row_I[known]] = values_KW
    vector_VW[0] = 0
    return vector_VW


def _attribute(
    tables: list[tuple[pa.Table, np.ndarray]], name: str, num_rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """(numbers (V, C ≥ 1) int32 of an id column, from the first table that knows the item; ids)."""
    missing_V = np.ones(num_rows, bool)
    missing_V[0] = False
    rows, parts = [], []
    for table, row_I in tables:
        if name in table.column_names:
            row_P, part = _pairs(flat(table[name]), row_I, missing_V)
            missing_V[row_P] = False
            rows.append(row_P)
            parts.append(part)
    result = np.zeros((num_rows, 1), np.int32)
    if not sum(map(len, parts)):
        return result, np.zeros(0, np.int64)
    if any(is_text(part.type) for part in parts):
        parts = [pc.cast(part, pa.string()) for part in parts]
    row_P = np.concatenate(rows)
    code_P, ids = factorize(pa.chunked_array(parts))
    pair_P = row_P * len(ids) + code_P
    order = np.sort(np.unique(pair_P, return_index=True)[1])  # a cluster named twice counts once
    order = order[np.argsort(row_P[order], kind="stable")]
    row_P, code_P = row_P[order], code_P[order]
    slot_P = np.arange(len(row_P)) - np.searchsorted(row_P, row_P)
    result = np.zeros((num_rows, int(slot_P.max()) + 1), np.int32)
    result[row_P, slot_P] = code_P + 1
    return result, ids


def _pairs(
    column: pa.Array, row_I: np.ndarray, wanted_V: np.ndarray
) -> tuple[np.ndarray, pa.Array]:
    """(catalogue row, id) pairs of the first record of each wanted row that says something."""
    if is_list(column.type):
        parent = pc.list_parent_indices(column).to_numpy()
        column = pc.list_flatten(column)
    else:
        parent = np.arange(len(column))
    known = wanted_V[row_I[parent]] & pc.is_valid(column).to_numpy(zero_copy_only=False)
    parent = parent[known]
    column = column.filter(pa.array(known))
    row_P = row_I[parent]
    distinct, first, inverse = np.unique(row_P, return_index=True, return_inverse=True)
    first_record = parent == parent[first][inverse] if len(distinct) else np.zeros(0, bool)
    return row_P[first_record], column.filter(pa.array(first_record))
