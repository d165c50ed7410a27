"""Which of a file's columns is which of ours: config.data.columns, `item_id=movieId` each.

A time in other units than milliseconds names them: `timestamp_ms=rated_at:s`, with s, ms, us or ns.
"""

from __future__ import annotations

import dataclasses
import re

import pyarrow as pa
import pyarrow.compute as pc

from negflax.config import ConfigError
from negflax.data import cells
from negflax.data.cells import DataError
from negflax.data.columns import flat, listed, tidy_names

IN_MILLISECONDS = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
_ENTRY = re.compile(r"\s*(?P<ours>\w+)\s*=\s*(?P<theirs>.+?)(?::(?P<unit>s|ms|us|ns))?\s*")


@dataclasses.dataclass(frozen=True)
class Renaming:
    """Names that columns of a file take, and the units of times among them.

    Attributes:
      setting: that it was read from, for messages.
      theirs: {ours: theirs}.
      units: {ours: unit} of times that are not in milliseconds.
      partial: a file may lack columns: one to serve from has no feedback that only labels need.
    """

    setting: str = "config.data.columns"
    theirs: dict[str, str] = dataclasses.field(default_factory=dict)
    units: dict[str, str] = dataclasses.field(default_factory=dict)
    partial: bool = False

    def of(self, ours: str) -> str:
        """What the file calls one of our columns."""
        return self.theirs.get(ours, ours)

    def apply(self, table: pa.Table, name: str, start: int = 0) -> pa.Table:
        """The table in our columns.

        Args:
          table: rows of a file.
          name: of the file, for messages.
          start: rows of the file before these.

        Raises:
          DataError: columns are missing or would be there twice, or a time is no number.
        """
        table = tidy_names(table)
        names = table.column_names
        if self.partial:
            return self._present(names).apply(table, name, start)
        if absent := [f"`{theirs}`" for theirs in self.theirs.values() if theirs not in names]:
            raise DataError(
                f"{name}: {self.setting} names {', '.join(absent)}; the file has "
                f"{listed(names)}: correct the setting"
            )
        ours = {theirs: ours for ours, theirs in self.theirs.items()}
        renamed = [ours.get(theirs, theirs) for theirs in names]
        if double := next((one for one in self.theirs if renamed.count(one) > 1), None):
            raise DataError(
                f"{name}: {self.setting} makes `{self.theirs[double]}` the column `{double}`, and "
                f"the file has another `{double}`: rename one of them in the file"
            )
        table = table.rename_columns(renamed)
        for column, unit in self.units.items():
            times = flat(table[column])
            if pa.types.is_temporal(times.type):
                continue  # it says itself what it is
            times = _milliseconds(times, unit, cells.Place(name, self.theirs[column], start))
            table = table.set_column(renamed.index(column), column, times)
        return table

    def _present(self, names: list[str]) -> Renaming:
        """Those of columns that the file has."""
        theirs = {ours: one for ours, one in self.theirs.items() if one in names}
        units = {ours: unit for ours, unit in self.units.items() if ours in theirs}
        return Renaming(self.setting, theirs, units)


def _milliseconds(column: pa.Array, unit: str, place: cells.Place) -> pa.Array:
    if pa.types.is_integer(column.type) and unit in ("us", "ns"):
        return pc.divide(column, 10**3 if unit == "us" else 10**6)  # exact, unlike a float
    number = cells.number(column, pa.float64(), place, False)
    return pc.round(pc.multiply(number, IN_MILLISECONDS[unit]))


def renaming(
    entries: tuple[str, ...], setting: str = "config.data.columns", partial: bool = False
) -> Renaming:
    """Reads the entries of a setting.

    Args:
      entries: of the setting.
      setting: its name, for messages.
      partial: see Renaming.

    Raises:
      ConfigError: an entry is not `OURS=THEIRS`, or two of them name one column.
    """
    theirs: dict[str, str] = {}
    units: dict[str, str] = {}
    for entry in entries:
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise ConfigError(
                f"{setting}: `{entry}` is not a pair of columns; write `item_id=movieId`, our name "
                "first, or with the unit of a time: `timestamp_ms=rated_at:s`"
            )
        ours = match["ours"]
        if ours in theirs or match["theirs"] in theirs.values():
            raise ConfigError(f"{setting}: `{entry}` names a column a second time: keep one entry")
        theirs[ours] = match["theirs"]
        if match["unit"] not in (None, "ms"):
            units[ours] = match["unit"]
    return Renaming(setting, theirs, units, partial)
