"""CSV files, packed or not, as Arrow tables; what is no CSV is told with its row."""

from __future__ import annotations

import codecs
import csv as standard_csv
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
from absl import logging

from negflax.data.cells import NUMBER, DataError
from negflax.data.columns import flat, is_list, is_text

SEPARATOR = "|"  # of the names in a list, as schema.py reads them
_FORMULA = r"^[=+\-@\t\r]"
COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}


def unpacked(path: Path) -> pa.NativeFile:
    """A stream of the bytes of a CSV, unpacked where its name says that it is packed."""
    return pa.input_stream(str(path), compression=COMPRESSED.get(path.suffix.lower()))


def read_csv(path: Path, text: set[str]) -> pa.Table:
    """Reads a CSV whole.

    Args:
      path: the file.
      text: names of columns that stay text, as ids do: leading zeros survive.

    Raises:
      DataError: it is no CSV, or no UTF-8; the message names the row or column.
    """
    # One block: the type of a column is then inferred from all its rows, and text far down in a
    # number column reaches the schema check, which names its row.
    with unpacked(path) as stream:
        source = stream.read_buffer()
    header = _header(path, source)
    if separator := other_separator(header):
        raise DataError(f"{path}: its fields are separated by {separator!r}; save it with commas")
    kinds = {name: pa.string() for name in header if name.strip() in text}
    try:
        return _parse_csv(source, kinds)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        found = re.search(r"CSV column #(\d+): .*UTF8", str(error))
        if found or isinstance(error, UnicodeDecodeError):
            column = f": column `{header[int(found[1])]}`" if found else ""
            raise DataError(f"{path}{column} is not UTF-8 text: save the file as UTF-8") from error
        if header and "Empty CSV" in str(error):  # a header without a line end
            return _parse_csv(pa.py_buffer(bytes(source) + b"\n"), kinds)
    try:
        return _parse_csv(source, kinds, threads=False)  # whose messages tell the row
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}{_said(str(error))}") from error


def other_separator(header: list[str]) -> str | None:
    """What separates the fields where they seem to be one, as no comma does."""
    return next((one for one in ";\t|" if len(header) == 1 and one in header[0]), None)


def _parse_csv(source: pa.Buffer, kinds: dict[str, pa.DataType], threads: bool = True) -> pa.Table:
    size = min(max(source.size + 1, 1024), 2**31 - 1)
    return csv.read_csv(
        pa.BufferReader(source),
        read_options=csv.ReadOptions(block_size=size, use_threads=threads),
        convert_options=csv.ConvertOptions(
            column_types=kinds, null_values=["", "null", "NULL"], strings_can_be_null=True
        ),
    )


def _header(path: Path, source: pa.Buffer) -> list[str]:
    """The names in the first line of a CSV."""
    start = bytes(source[: min(source.size, 2**20)])
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path} is UTF-16 text: save the file as UTF-8")
    line = re.split(rb"\r?\n|\r", start.removeprefix(codecs.BOM_UTF8))[0]
    return next(standard_csv.reader([line.decode(errors="replace")]), [])


def _said(message: str) -> str:
    """A message of pyarrow's CSV parser, with the row as we count it and what to do."""
    found = re.search(r"Row #(\d+): (.*)", message, re.DOTALL)
    row, problem = (f": row {int(found[1]) - 2}", found[2]) if found else ("", message)
    if "Empty CSV" in message:
        return " cannot be read: it has no header and no rows; write it again"
    problem = problem.removeprefix("CSV parse error: ").replace("\0", "\\0").replace("\n", "\\n")
    remedy = "it may be cut short, or have a comma or quote in a field that is not in quotes"
    if "\0" in message:
        remedy = "it holds zero bytes: write it again"
    return f"{row} cannot be read: {problem[:200]}; {remedy}"


def for_spreadsheets(table: pa.Table, name: str) -> pa.Table:
    """The table as a CSV holds it: lists parted by `|`, and no text that a spreadsheet would run.

    Text that begins with = + - @, a tab or a carriage return, and is no number, is a formula to
    Excel and its kin, and titles come from strangers: it gets a ' in front, which is told.
    """
    marked = 0
    for place, field in enumerate(table.schema):
        column = flat(table[field.name])
        if is_list(column.type):
            column = pc.binary_join(column.cast(pa.list_(pa.string())), SEPARATOR)
        if is_text(column.type):
            number = pc.match_substring_regex(column, NUMBER)
            runs = pc.and_(pc.match_substring_regex(column, _FORMULA), pc.invert(number))
            marked += pc.sum(runs).as_py() or 0
            column = pc.if_else(runs, pc.binary_join_element_wise("'", column, ""), column)
        table = table.set_column(place, field.name, column)
    if marked:
        logging.warning(
            "%s: %d texts begin like a formula and have a ' in front; a .parquet file has them as "
            "they are",
            name,
            marked,
        )
    return table
