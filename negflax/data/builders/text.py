"""Streams delimited text as Arrow tables: bounded memory, errors with file, column and row."""

from __future__ import annotations

import codecs
import csv as standard_csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from negflax.data.cells import DataError
from negflax.data.columns import PLAIN_INTEGER
from negflax.data.csv_files import unpacked

BLOCK_BYTES = 16 * 2**20  # of text that is parsed at a time
_AT_COLUMN = re.compile(
    r"In CSV column #(\d+): (?:Row #(\d+): )?(?:CSV conversion error to [^:]*: )?(.*)"
)
_AT_ROW = re.compile(r"(?:CSV parse error: )?Row #(\d+): (.*)")
INT, FLOAT, TEXT = pa.int64(), pa.float64(), pa.string()


def read_text(
    path: Path,
    columns: Mapping[str, pa.DataType],
    delimiter: str = ",",
    names: Sequence[str] = (),
    encoding: str = "utf-8",
    quotes: bool = True,
) -> Iterator[pa.Table]:
    """Reads some columns of a delimited file, block by block.

    Args:
      path: the file.
      columns: {name: type} of the columns to read, in the order of the result.
      delimiter: one character.
      names: of all columns of a file without a header; empty: its first line names them.
      encoding: of the text.
      quotes: whether "a,b" in quotes is one value.

    Yields:
      Tables of `columns`; an empty field or NaN is null, and an empty text "" too.

    Raises:
      DataError: the file is empty, cut short or in another encoding, lacks a column, or holds a
        value that its column cannot; rows count from 0, without the header.
    """
    _first_line(path, encoding)
    header = list(names) or read_header(path, delimiter, encoding)
    for name in columns:
        if name not in header:
            raise DataError(
                f"{path}: column `{name}` is missing; its header is {', '.join(header)}: is this "
                "the original file?"
            )
    skipped = 1 if names else 2  # pyarrow counts rows from 1, with the header
    try:
        yield from _blocks(path, columns, delimiter, names, encoding, quotes)
    except pa.ArrowException as error:
        raise _place(path, header, str(error), skipped) from error


def read_header(path: Path, delimiter: str = ",", encoding: str = "utf-8") -> list[str]:
    """The names in the first line.

    Raises:
      DataError: the file is missing or empty, or its text is in another encoding.
    """
    line = _first_line(path, encoding).rstrip("\r\n")
    return next(standard_csv.reader([line], delimiter=delimiter))


def _first_line(path: Path, encoding: str) -> str:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        with unpacked(path) as stream:
            line = stream.read(2**20).split(b"\n")[0]
    except OSError as error:
        raise DataError(f"{path} cannot be read, it may be cut short: {error}") from error
    if not line.strip():
        raise DataError(f"{path} is empty: download or write it again")
    try:
        text = line.removeprefix(codecs.BOM_UTF8).decode(encoding)
        if "\0" in text:
            raise UnicodeError("it holds zero bytes")
    except UnicodeError as error:
        raise DataError(
            f"{path}: row 0 is not {encoding} text ({error}): save the file as {encoding}"
        ) from error
    return text


def id_type(path: Path, column: str, **options: Any) -> pa.DataType:
    """int64 where every id of a column is a whole number, else text; reads the file once.

    Args:
      path: the file.
      column: its name.
      **options: of `read_text`.

    Raises:
      DataError: as `read_text`.
    """
    for table in read_text(path, {column: TEXT}, quotes=False, **options):
        if not pc.all(pc.match_substring_regex(table[column], PLAIN_INTEGER)).as_py():
            return TEXT
    return INT


def _blocks(path, columns, delimiter, names, encoding, quotes) -> Iterator[pa.Table]:
    reader = csv.open_csv(
        unpacked(path),
        # One thread: with more, an error does not tell its row.
        csv.ReadOptions(
            use_threads=False, block_size=BLOCK_BYTES, column_names=names, encoding=encoding
        ),
        csv.ParseOptions(delimiter=delimiter, quote_char='"' if quotes else False),
        csv.ConvertOptions(
            column_types=dict(columns),
            include_columns=list(columns),
            null_values=["", "NaN", "nan", "NULL", "null"],
            strings_can_be_null=True,
        ),
    )
    for batch in reader:
        yield pa.Table.from_batches([batch])


def _place(path: Path, header: list[str], message: str, skipped: int) -> DataError:
    if "Empty CSV file" in message:
        return DataError(f"{path} is empty: download or write it again")
    found = _AT_COLUMN.match(message)
    if found:
        row = f", row {int(found[2]) - skipped}" if found[2] else ""
        column = header[int(found[1])]
        remedy = "write a number, and nothing where it is unknown"
        if "UTF8" in found[3]:
            remedy = "save the file as UTF-8"
        return DataError(f"{path}: column `{column}`{row}: {found[3].strip()}; {remedy}")
    found = _AT_ROW.match(message)
    if found:
        row = int(found[1]) - skipped
        return DataError(f"{path}: row {row}: {found[2]}; the file may be cut short")
    return DataError(f"{path} cannot be read: {message}")
