"""The event log: its columns, their types and what null means, checked before anything is trained.

An event log is a `pyarrow.Table`. Required: user_id, item_id (int64 or text) and at least one of
timestamp_ms and pos (order within the user; wins where both exist). Optional: split (train, valid,
test); the signals dislike, dismissal, skip, like and any other boolean or 0-1 column; rating,
dwell_ms, duration_ms, creator_id, cluster_ids (scalar or list), surface, reward, propensity, reason
(text, of a dismissal), random_exposure (the item was shown at random). Null means unknown, never 0.
Other number columns are kept for rules, other text is left out.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from negflax.data import cells
from negflax.data.cells import DataError
from negflax.data.columns import (
    factorize,
    flat,
    integers,
    is_list,
    is_number,
    is_text,
    stable_order,
)

SPLITS = ("train", "valid", "test")
SIGNALS = ("dislike", "dismissal", "skip", "like")
NUMBERS = {
    "timestamp_ms": pa.int64(),
    "pos": pa.int64(),
    "dwell_ms": pa.int64(),
    "duration_ms": pa.int64(),
    "surface": pa.int64(),
    "rating": pa.float64(),
    "reward": pa.float64(),
    "propensity": pa.float64(),
}
AT_LEAST_ZERO = ("timestamp_ms", "dwell_ms", "duration_ms", "propensity")
NOT_SIGNALS = ("user_id", "item_id", "creator_id", "cluster_ids", "split", "pos", "timestamp_ms")


def validate(table: pa.Table, name: str) -> tuple[pa.Table, dict[str, int]]:
    """Checks and repairs a whole event log.

    Args:
      table: the events, in any order.
      name: file or source, for the messages.

    Returns:
      (the events in canonical types, sorted by user and pos or timestamp_ms, without exact
      duplicates; how often each repair was made: `unsorted_events`, `duplicate_events`).

    Raises:
      DataError: anything that has no safe repair; it names file, column and row and the way out.
    """
    table = conform(table, name)
    return order(as_signals(table, binary(spans(table))))


def conform(table: pa.Table, name: str, start: int = 0) -> pa.Table:
    """Casts events of one file to the canonical types; its rows keep their order and number.

    Args:
      table: the file, or a chunk of it.
      name: file or source, for the messages.
      start: rows of the file before this chunk.

    Raises:
      DataError: as `validate`.
    """
    names = table.column_names
    _require(table, name, ("user_id", "item_id"))
    if not {"timestamp_ms", "pos"} & set(names):
        raise DataError(
            f"{name}: neither column `timestamp_ms` nor `pos`: add the event time in milliseconds "
            "or the position within the user"
        )
    result = {}
    for column_name in names:
        cell = cells.Place(name, column_name, start)
        column = flat(table[column_name])
        if column_name in ("user_id", "item_id"):
            column = cells.ids(column, cell)
            cells.no_null(column, cell, "give every event its id or leave the event out")
        elif column_name == "creator_id":
            column = cells.ids(column, cell)
        elif column_name == "cluster_ids":
            column = cells.clusters(column, cell)
        elif column_name == "split":
            column = _split(column, cell)
        elif column_name in (*SIGNALS, "random_exposure"):
            column = cells.signal(column, cell)
        elif column_name == "reason":
            column = cells.text(column, cell)
        elif column_name in NUMBERS:
            column = cells.number(column, NUMBERS[column_name], cell, column_name in AT_LEAST_ZERO)
        elif is_number(column.type):
            whole = pa.types.is_integer(column.type)
            column = cells.number(column, pa.int64() if whole else pa.float64(), cell, False)
        elif not pa.types.is_boolean(column.type):
            continue
        result[column_name] = column
    needed = "pos" if "pos" in names else "timestamp_ms"
    way_out = "add a column `pos`, the order within the user" if needed != "pos" else "number it"
    cells.no_null(
        result[needed], cells.Place(name, needed, start), f"its order is unknown: {way_out}"
    )
    return pa.table(result)


def spans(table: pa.Table) -> dict[str, tuple[int, int]]:
    """(smallest, largest) value of each integer column that may turn out to be a signal."""
    found = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_integer(column.type) and name not in (*NUMBERS, *NOT_SIGNALS):
            span = pc.min_max(column).as_py()
            if span["min"] is not None:
                found[name] = (span["min"], span["max"])
    return found


def binary(found: dict[str, tuple[int, int]]) -> list[str]:
    """The columns of `spans` that hold nothing but 0 and 1: they are signals."""
    return [name for name, (low, high) in found.items() if low >= 0 and high <= 1]


def as_signals(table: pa.Table, names: list[str]) -> pa.Table:
    """The table with these integer columns as booleans."""
    for name in names:
        if pa.types.is_integer(table.schema.field(name).type):
            place = table.column_names.index(name)
            table = table.set_column(place, name, pc.cast(table[name], pa.bool_()))
    return table


def order(table: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """Sorts conforming events and drops exact duplicates.

    Returns:
      (table, counted repairs), as `validate`.
    """
    user_E, _ = factorize(table["user_id"])
    key_E = integers(table["pos" if "pos" in table.column_names else "timestamp_ms"], 0)
    by_user = stable_order(user_E)
    same = np.diff(user_E[by_user]) == 0
    unsorted = int(np.sum(same & (np.diff(key_E[by_user]) < 0)))
    rows = np.lexsort((key_E, user_E)) if unsorted else by_user
    if np.any(np.diff(rows) != 1):
        table, user_E, key_E = table.take(rows), user_E[rows], key_E[rows]
    table, duplicates = _drop_duplicates(table, user_E, key_E)
    return table, {"unsorted_events": unsorted, "duplicate_events": duplicates}


def validate_items(table: pa.Table, name: str) -> pa.Table:
    """Checks an item table: item_id, optional creator_id, cluster_ids, title, duration_ms.

    Returns:
      The table in canonical types, with those columns only.

    Raises:
      DataError: a missing or null item_id, an item that appears twice, or a value that its column
        cannot hold; it names file, column and row.
    """
    _require(table, name, ("item_id",))
    result = {}
    for column_name in table.column_names:
        cell = cells.Place(name, column_name)
        column = flat(table[column_name])
        if column_name in ("item_id", "creator_id"):
            result[column_name] = cells.ids(column, cell)
        elif column_name == "cluster_ids":
            result[column_name] = cells.clusters(column, cell)
        elif column_name == "title":
            result[column_name] = pc.cast(column, pa.string())
        elif column_name == "duration_ms":
            result[column_name] = cells.number(column, pa.int64(), cell, True)
    cell = cells.Place(name, "item_id")
    cells.no_null(result["item_id"], cell, "give every item its id or leave the item out")
    code_I, _ = factorize(result["item_id"])
    first = np.unique(code_I, return_index=True)[1]
    if len(first) < len(code_I):
        row = int(np.setdiff1d(np.arange(len(code_I)), first)[0])
        raise cell.error(row, f"item {result['item_id'][row]} appears twice", "keep one row of it")
    return pa.table(result)


def _require(table: pa.Table, name: str, required: tuple[str, ...]) -> None:
    names = table.column_names
    for column_name in required:
        if column_name not in names:
            raise DataError(
                f"{name}: column `{column_name}` is missing; the file has {', '.join(names)}: "
                "rename or add it"
            )
    for column_name in names:
        if names.count(column_name) > 1:
            raise DataError(f"{name}: column `{column_name}` appears twice: keep one of them")
    if table.num_rows == 0:
        raise DataError(f"{name}: the table has no rows: give at least one event or item")


def _split(column: pa.Array, cell: cells.Place) -> pa.Array:
    if not is_text(column.type):
        raise cell.error(0, f"{column[0].as_py()!r}", f"write one of {', '.join(SPLITS)}")
    column = pc.cast(column, pa.string())
    row = cells.first(pc.invert(pc.is_in(column, value_set=pa.array(SPLITS))))
    if row is not None:
        raise cell.error(row, f"{column[row].as_py()!r}", f"write one of {', '.join(SPLITS)}")
    return column


def _drop_duplicates(
    table: pa.Table, user_E: np.ndarray, key_E: np.ndarray
) -> tuple[pa.Table, int]:
    tie = (np.diff(user_E) == 0) & (np.diff(key_E) == 0)
    if not tie.any():
        return table, 0
    near = np.flatnonzero(np.append(tie, False) | np.append(False, tie))  # only ties can be equal
    code = np.zeros(len(near), np.int64)
    for column in table.take(near).columns:
        column = flat(column)
        if is_list(column.type):
            texts = pc.cast(column, pa.list_(pa.string()))
            column = pc.binary_join(texts, "\x1f")
        indices = integers(column.dictionary_encode().indices, -1) + 1
        code = np.unique(code * (indices.max() + 1) + indices, return_inverse=True)[1]
    first = np.unique(code, return_index=True)[1]
    keep = np.ones(table.num_rows, bool)
    keep[np.delete(near, first)] = False
    dropped = len(near) - len(first)
    return (table.filter(pa.array(keep)) if dropped else table), dropped
