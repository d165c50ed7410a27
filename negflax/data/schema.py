"""The event log: its columns, their types and what null means, checked before anything is trained.

An event log is a `pyarrow.Table`. Required: user_id, item_id (int64 or text) and at least one of
timestamp_ms and pos (order within the user; wins where both exist). Optional: split (train, valid,
test); the signals dislike, dismissal, skip, like and any other boolean or 0-1 column; rating,
dwell_ms, duration_ms, creator_id, cluster_ids (scalar or list), surface, reward, propensity, reason
(text, of a dismissal), random_exposure (the item was shown at random). Null means unknown, never 0.
Times are read by times.py, those of signals (`<signal>_at_ms`) too. Other number columns are kept
for rules, other text where a rule asks for it; the rest is left out, and data_report.json names it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from negflax.data import cells, times
from negflax.data.cells import DataError
from negflax.data.columns import (
    ID_COLUMNS,
    factorize,
    flat,
    integers,
    is_list,
    is_number,
    is_text,
    listed,
    numeric_ids,
    stable_order,
    tidy_names,
)
from negflax.data.csv_files import other_separator

SPLITS = ("train", "valid", "test")
SIGNALS = ("dislike", "dismissal", "skip", "like")
NUMBERS = {
    "pos": pa.int64(),
    "dwell_ms": pa.int64(),
    "duration_ms": pa.int64(),
    "surface": pa.int64(),
    "rating": pa.float64(),
    "reward": pa.float64(),
    "propensity": pa.float64(),
}
HOLD_IDS = (*ID_COLUMNS, "cluster_ids")
AT_LEAST_ZERO = ("dwell_ms", "duration_ms", "propensity")
ITEM_COLUMNS = ("creator_id", "cluster_ids", "title", "duration_ms", "item_vector")
NOT_SIGNALS = ("user_id", "item_id", "creator_id", "cluster_ids", "split", "pos", "timestamp_ms")


def validate(
    table: pa.Table, name: str, asked: Mapping[str, str] | None = None
) -> tuple[pa.Table, dict[str, int]]:
    """Checks and repairs a whole event log.

    Args:
      table: the events, in any order.
      name: file or source, for the messages.
      asked: how label rules ask for a signal (rules.asked).

    Returns:
      (the events in canonical types, sorted by user and pos or timestamp_ms, without exact
      duplicates; how often each repair was made: `unsorted_events`, `duplicate_events`).

    Raises:
      DataError: anything that has no safe repair; it names file, column and row and the way out.
    """
    repairs: Counter[str] = Counter()
    table = numeric_ids(conform(table, name, asked=asked, repairs=repairs))
    table, found = order(as_signals(table, binary(spans(table))), asked)
    return table, found | repairs


def conform(
    table: pa.Table,
    name: str,
    start: int = 0,
    asked: Mapping[str, str] | None = None,
    repairs: Counter[str] | None = None,
) -> pa.Table:
    """Casts events of one file to the canonical types; its rows keep their order and number.

    Args:
      table: the file, or a chunk of it.
      name: file or source, for the messages.
      start: rows of the file before this chunk.
      asked: as `validate`; text that a rule asks for is read as what the rule compares it with.
      repairs: takes the count of `ids_with_blanks`.

    Raises:
      DataError: as `validate`.
    """
    table = tidy_names(table)
    names = table.column_names
    _require(table, name, ("user_id", "item_id"))
    if not {"timestamp_ms", "pos"} & set(names):
        raise DataError(
            f"{name}: neither column `timestamp_ms` nor `pos`: add the event time in milliseconds "
            "or the position within the user"
        )
    asked = asked or {}
    result = {}
    for column_name, column in zip(names, table.columns, strict=True):
        cell = cells.Place(name, column_name, start)
        ours = column_name in READ or column_name in ("user_id", "item_id")
        if column_name in HOLD_IDS:
            cells.require_exact(column, cell)
        if ours or column_name in asked or times.is_time(column_name):
            column = cells.plain(column, cell)
        else:
            column = flat(column)
        if column_name in ("user_id", "item_id"):
            written, column = column, cells.ids(column, cell)
            remedy = "give every event its id or leave the event out"
            cells.no_null(column, cell, remedy, written)
            if repairs is not None and (padded := cells.padded(written)):
                repairs["ids_with_blanks"] += padded
        elif times.is_time(column_name):
            column = times.milliseconds(column, cell)
        elif column_name in READ:
            column = READ[column_name](column, cell)
        elif is_text(column.type) and column_name in asked:
            column = _as_asked(column, cell, asked[column_name])
        elif is_number(column.type):
            whole = pa.types.is_integer(column.type) and not pa.types.is_uint64(column.type)
            if column_name not in asked:
                column = cells.finite_or_null(column)
            column = cells.number(column, pa.int64() if whole else pa.float64(), cell, False)
        elif not pa.types.is_boolean(column.type):
            if column_name in asked and not pa.types.is_null(column.type):
                remedy = "rules ask for numbers, yes or no, and text: write one of them"
                raise cell.error(None, f"values of type {column.type}", remedy)
            continue
        result[column_name] = column
    needed = "pos" if "pos" in names else "timestamp_ms"
    way_out = "add a column `pos`, the order within the user" if needed != "pos" else "number it"
    cells.no_null(
        result[needed], cells.Place(name, needed, start), f"its order is unknown: {way_out}"
    )
    return pa.table(result)


def _as_asked(column: pa.Array, cell: cells.Place, how: str) -> pa.Array:
    """A text column as what rules compare it with: `number`, `bit` or `text` (rules.asked)."""
    if how == "number":
        return cells.number(column, pa.float64(), cell, False)
    return cells.signal(column, cell) if how == "bit" else cells.text(column, cell)


def spans(table: pa.Table) -> dict[str, tuple[float, float]]:
    """(smallest, largest) value of each number column that may turn out to be a signal.

    A column with a fraction in it is none: its span is the whole line.
    """
    found = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name in NUMBERS or name in NOT_SIGNALS or times.is_time(name):
            continue
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            span = pc.min_max(column).as_py()
            if span["min"] is None:
                continue
            found[name] = (span["min"], span["max"])
            if pa.types.is_floating(column.type) and binary({name: found[name]}):
                fractions = pc.not_equal(column, pc.round(column))
                if pc.any(fractions, min_count=0).as_py():
                    found[name] = (float("-inf"), float("inf"))
        elif pa.types.is_boolean(column.type):
            found[name] = (0, 1)
    return found


def binary(found: Mapping[str, tuple[float, float]]) -> list[str]:
    """The columns of `spans` that hold nothing but 0 and 1: they are signals."""
    return [name for name, (low, high) in found.items() if low >= 0 and high <= 1]


def as_signals(table: pa.Table, names: list[str]) -> pa.Table:
    """The table with these number columns as booleans."""
    columns = dict(zip(table.column_names, table.columns, strict=True))
    for name in names:
        if cells.is_number(columns[name].type):
            columns[name] = pc.cast(columns[name], pa.bool_())
    return pa.table(columns)


def order(
    table: pa.Table, asked: Mapping[str, str] | None = None
) -> tuple[pa.Table, dict[str, int]]:
    """Sorts conforming events and drops exact duplicates.

    Args:
      table: the events.
      asked: as `validate`; given, number columns that nothing reads tell no two events apart, as
        text columns do not: a log to serve from may lack them.

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
    read = table.column_names
    if asked is not None:
        ids = ("user_id", "item_id")
        read = [n for n in read if n in READ or n in ids or n in asked or times.is_time(n)]
    table, duplicates = _drop_duplicates(table, read, user_E, key_E)
    return table, {"unsorted_events": unsorted, "duplicate_events": duplicates}


def validate_items(table: pa.Table, name: str) -> pa.Table:
    """Checks an item table: item_id, optional ITEM_COLUMNS.

    Returns:
      The table in canonical types, with those columns only.

    Raises:
      DataError: a missing or null item_id, an item that appears twice, or a value that its column
        cannot hold; it names file, column and row.
    """
    table = tidy_names(table)
    _require(table, name, ("item_id",))
    result = {}
    for column_name, column in zip(table.column_names, table.columns, strict=True):
        cell = cells.Place(name, column_name)
        if column_name not in ("item_id", *ITEM_COLUMNS):
            continue
        if column_name in HOLD_IDS:
            cells.require_exact(column, cell)
        column = cells.plain(column, cell)
        if column_name in ("item_id", "creator_id"):
            result[column_name] = cells.ids(column, cell)
        elif column_name == "cluster_ids":
            result[column_name] = cells.clusters(column, cell)
        elif column_name == "title":
            result[column_name] = cells.title(column, cell)
        elif column_name == "duration_ms":
            result[column_name] = cells.number(column, pa.int64(), cell, True)
        elif column_name == "item_vector":
            result[column_name] = cells.vectors(column, cell)
    cell = cells.Place(name, "item_id")
    cells.no_null(result["item_id"], cell, "give every item its id or leave the item out")
    code_I, _ = factorize(result["item_id"])
    first = np.unique(code_I, return_index=True)[1]
    if len(first) < len(code_I):
        row = int(np.setdiff1d(np.arange(len(code_I)), first)[0])
        raise cell.error(row, f"item {result['item_id'][row]} appears twice", "keep one row of it")
    return pa.table(result)


def is_ours(name: str) -> bool:
    """Whether the schema reads columns of this name, of events or items."""
    return name in READ or name in NOT_SIGNALS or name in ITEM_COLUMNS or times.is_time(name)


def _require(table: pa.Table, name: str, required: tuple[str, ...]) -> None:
    names = table.column_names
    for column_name in required:
        if column_name not in names:
            raise DataError(
                f"{name}: column `{column_name}` is missing; the file has {listed(names)}: "
                + _way_to(column_name, names)
            )
    for column_name, count in Counter(names).items():
        if count > 1:
            raise DataError(f"{name}: column `{column_name}` appears twice: keep one of them")
    if table.num_rows == 0:
        raise DataError(f"{name}: the table has no rows: give at least one event or item")


def _way_to(needed: str, names: list[str]) -> str:
    """What to do about a missing column."""
    if separator := other_separator(names):
        return f"its fields are separated by {separator!r}; save it with commas"
    return f"rename or add it, or name it, as in config.data.columns = ('{needed}=NAME',)"


def _split(column: pa.Array, cell: cells.Place) -> pa.Array:
    if not is_text(column.type):
        raise cell.error(0, f"{column[0].as_py()!r}", f"write one of {', '.join(SPLITS)}")
    column = pc.utf8_lower(pc.utf8_trim_whitespace(pc.cast(column, pa.string())))
    row = cells.first(pc.invert(pc.is_in(column, value_set=pa.array(SPLITS))))
    if row is not None:
        raise cell.error(row, f"{column[row].as_py()!r}", f"write one of {', '.join(SPLITS)}")
    return column


def _drop_duplicates(
    table: pa.Table, read: list[str], user_E: np.ndarray, key_E: np.ndarray
) -> tuple[pa.Table, int]:
    tie = (np.diff(user_E) == 0) & (np.diff(key_E) == 0)
    if not tie.any():
        return table, 0
    near = np.flatnonzero(np.append(tie, False) | np.append(False, tie))  # only ties can be equal
    code = np.zeros(len(near), np.int64)
    for column in table.select(read).take(near).columns:
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


def _number(kind: pa.DataType, at_least_zero: bool):
    return lambda column, cell: cells.number(column, kind, cell, at_least_zero)


READ = {  # how each column of ours is read, but for the ids and times of an event
    "creator_id": cells.ids,
    "cluster_ids": cells.clusters,
    "split": _split,
    "reason": cells.text,
    **dict.fromkeys((*SIGNALS, "random_exposure"), cells.signal),
    **{name: _number(kind, name in AT_LEAST_ZERO) for name, kind in NUMBERS.items()},
}
