"""The small file that says which of a user's columns is which of ours.

[columns]              # theirs = ours (schema.py); columns that are not named keep their names
uid = "user_id"
video = "item_id"
ts = "timestamp_ms"

[units]                # of times that are not in milliseconds: s, ms, us or ns
ts = "s"

[unknown]              # a value that means unknown, beside null and an empty field
rating = -1
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from negflax.data import cells
from negflax.data.cells import DataError
from negflax.data.columns import flat, is_text

FILE = "mapping.toml"
UNITS = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}  # milliseconds


@dataclasses.dataclass(frozen=True)
class Mapping:
    """Renames, scales and nulls columns; see the module.

    Attributes:
      name: of the file, for messages.
      columns: {theirs: ours}.
      units: {theirs: unit}.
      unknown: {theirs: value}.
    """

    name: str = FILE
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    units: dict[str, str] = dataclasses.field(default_factory=dict)
    unknown: dict[str, Any] = dataclasses.field(default_factory=dict)

    def apply(self, table: pa.Table, name: str, start: int) -> pa.Table:
        """The table in our columns.

        Args:
          table: rows of a file.
          name: of the file, for messages.
          start: rows of the file before these.

        Raises:
          DataError: a column is missing or would be there twice, or a time is no number.
        """
        for theirs in (*self.columns, *self.units, *self.unknown):
            if theirs not in table.column_names:
                raise DataError(
                    f"{name}: column `{theirs}` is missing, which {self.name} names; the file has "
                    f"{', '.join(table.column_names)}"
                )
        for theirs, value in self.unknown.items():
            column = cells.plain(table[theirs], cells.Place(name, theirs, start))
            unknown = pc.fill_null(_means(column, value, f"{self.name}: [unknown] {theirs}"), False)
            none = pa.scalar(None, column.type)
            table = _replace(table, theirs, pc.if_else(unknown, none, column))
        for theirs, unit in self.units.items():
            place = cells.Place(name, theirs, start)
            column = flat(table[theirs])
            if pa.types.is_temporal(column.type):
                continue  # it says itself what it is
            column = cells.number(column, pa.float64(), place, False)
            table = _replace(table, theirs, pc.round(pc.multiply(column, UNITS[unit])))
        ours = [self.columns.get(theirs, theirs) for theirs in table.column_names]
        double = next((column for column in ours if ours.count(column) > 1), None)
        if double:
            raise DataError(
                f"{name}: column `{double}` is in the file, and {self.name} creates another one of "
                "that name: map the old one to another name"
            )
        return table.rename_columns(ours)


def read_mapping(folder: Path) -> Mapping:
    """Reads mapping.toml of a folder; without it all columns keep their names.

    Raises:
      DataError: the file is no TOML, or says what it cannot.
    """
    path = folder / FILE
    if not path.is_file():
        return Mapping()
    try:
        sections = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: {error}: write TOML, such as [columns] and uid = 'user_id'"
        ) from (error)
    known = ("columns", "units", "unknown")
    for section, entries in sections.items():
        if section not in known or not isinstance(entries, dict):
            raise DataError(f"{path}: [{section}] is not a section; choose from {', '.join(known)}")
    for theirs, ours in sections.get("columns", {}).items():
        if not isinstance(ours, str):
            raise DataError(f"{path}: {theirs} = {ours!r}: write the name of our column, in quotes")
    for theirs, unit in sections.get("units", {}).items():
        if unit not in UNITS:
            raise DataError(
                f"{path}: {theirs} = {unit!r} is not a unit; choose from {', '.join(UNITS)}"
            )
    return Mapping(str(path), **sections)


def _replace(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def _means(column: pa.Array, value: Any, name: str) -> pa.Array:
    """Where a column says `value`: numbers as numbers, however either of them is written.

    Raises:
      DataError: the column holds numbers, and the value is none.
    """
    text, kind = str(value).strip(), column.type
    number = float(text) if re.match(cells.NUMBER, text) else None
    if isinstance(value, bool):
        number, text = float(value), str(value).lower()
    if pa.types.is_null(kind):
        return pc.is_null(column)
    if is_text(kind):
        trimmed = pc.utf8_trim_whitespace(column)
        same = pc.or_(pc.equal(column, str(value)), pc.equal(pc.utf8_lower(trimmed), text.lower()))
        if number is None or isinstance(value, bool):
            return same
        written = pc.match_substring_regex(trimmed, cells.NUMBER)
        numbers = pc.cast(pc.if_else(written, trimmed, pa.scalar(None, kind)), pa.float64())
        return pc.or_(same, pc.fill_null(pc.equal(numbers, number), False))
    if cells.numeric(kind):
        if number is None:
            raise DataError(f"{name} = {value!r}: the column holds numbers: write one")
        return pc.equal(pc.cast(column, pa.float64(), safe=False), number)
    return pc.equal(pc.cast(column, pa.string()), text)
