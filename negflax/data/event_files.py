"""Parquet and CSV files of events and items: which there are, and what is in them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
from absl import logging

from negflax.data.cells import DataError
from negflax.data.columns import ID_COLUMNS, PLAIN_INTEGER, numeric_ids
from negflax.data.csv_files import COMPRESSED, for_spreadsheets, read_csv
from negflax.data.parts import Kinds, put_together
from negflax.data.renaming import Renaming, renaming
from negflax.data.schema import as_signals, binary, conform, validate_items
from negflax.files import replacing

SUFFIXES = (".parquet", ".csv")
CHUNK_EVENTS = 1_000_000
CSV_BYTES = 40  # of an average event
SAME_NAMES = Renaming()
COMPRESSION = 5  # text is about so many times as long as what it is packed into
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_PARTITION = re.compile(r"([^=/]+)=([^=/]*)")  # a folder such as date=2024-05-01


@dataclasses.dataclass
class Reading:
    """What reading a log left aside; all of it is named in data_report.json.

    Attributes:
      empty_files: without events, beside others that have some.
      files_left_out: of another kind.
      columns_left_out: that neither the schema nor a label rule asks for.
      item_columns_left_out: of the item table, that the schema does not know.
      repairs: counts of what was repaired (schema.conform).
    """

    empty_files: list[str] = dataclasses.field(default_factory=list)
    files_left_out: list[str] = dataclasses.field(default_factory=list)
    columns_left_out: set[str] = dataclasses.field(default_factory=set)
    item_columns_left_out: set[str] = dataclasses.field(default_factory=set)
    repairs: Counter[str] = dataclasses.field(default_factory=Counter)

    def report(self) -> dict[str, Any]:
        """What there is to tell, ready for JSON."""
        told = {
            "empty_files": self.empty_files,
            "files_left_out": self.files_left_out,
            "columns_left_out": sorted(self.columns_left_out),
            "item_columns_left_out": sorted(self.item_columns_left_out),
        }
        return {name: names for name, names in told.items() if names}


def read_events(
    path: str,
    items_path: str = "",
    asked: Mapping[str, str] | None = None,
    columns: tuple[str, ...] = (),
    item_columns: tuple[str, ...] = (),
    partial: bool = False,
) -> tuple[pa.Table, pa.Table | None]:
    """Reads an event log, and an item table where a path is given.

    Args:
      path: a .parquet or .csv file, or a folder of them, as `event_files`.
      items_path: a .parquet or .csv file.
      asked: how label rules ask for a signal (rules.asked).
      columns: of the log that have other names, as config.data.columns.
      item_columns: the same of the item table.
      partial: the log may lack some of `columns`, as one to serve from may.

    Returns:
      (events in canonical types, in the order of the files; items or None).

    Raises:
      DataError: a file is missing, cut short or fails the schema; rows count within their file.
    """
    files = event_files(path, items_path)
    names = renaming(columns, partial=partial)
    tables = list(event_chunks(files, CHUNK_EVENTS, asked, names=names))
    kinds = Kinds()
    for table in tables:
        kinds.add(table)
    events = put_together(tables, kinds.schema(str(path)))
    return as_signals(events, binary(kinds.spans)), read_items(items_path, item_columns)


def read_items(
    path: str, columns: tuple[str, ...] = (), reading: Reading | None = None
) -> pa.Table | None:
    """Reads an item table; None where the path is empty.

    Args:
      path: a .parquet or .csv file.
      columns: that have other names, as config.data.item_columns.
      reading: takes what was left aside.

    Raises:
      DataError: as `read_events`.
    """
    if not path:
        return None
    names = renaming(columns, "config.data.item_columns")
    table = names.apply(read_table(path, names), path)
    items = validate_items(table, path)
    if reading is not None:
        reading.item_columns_left_out |= set(table.column_names) - set(items.column_names)
    return numeric_ids(items)


def event_files(path: str, items_path: str = "", reading: Reading | None = None) -> list[Path]:
    """The files of an event log, in the order of their paths.

    Of a folder, that is every .parquet and .csv file in it and its folders, in capitals or small,
    a CSV also packed (.csv.gz, .bz2, .zst, .lz4). Hidden names, and those with _ in front, are left
    out, and so are files of other kinds, with a warning.

    Args:
      path: a file or folder.
      items_path: an item table that may lie in the folder.
      reading: takes the names of files of other kinds.

    Raises:
      DataError: there is none, or it is of another kind.
    """
    place = Path(path)
    with _errors(place):
        if not place.is_dir():
            require_suffix(place)
            if not place.is_file():
                raise DataError(f"{place}: there is no such file")
            return [place]
        files, others = [], []
        for file in sorted(place.rglob("*")):
            hidden = any(n.startswith((".", "_")) for n in file.relative_to(place).parts)
            if hidden or not file.is_file():
                continue
            if items_path and os.path.samefile(file, items_path):
                continue
            (files if kind_of(file) else others).append(file)
    if others:
        names = [str(file.relative_to(place)) for file in others]
        logging.warning(
            "%s: these files are of another type and are not read: %s", place, ", ".join(names)
        )
        if reading is not None:
            reading.files_left_out += names
    if not files:
        raise DataError(f"{place}: no {' or '.join(SUFFIXES)} file is in this folder")
    return files


def kind_of(path: str | os.PathLike[str]) -> str:
    """`.parquet` or `.csv`, by the name of a file; empty: it is of another kind."""
    path = Path(str(path).lower())
    if path.suffix in COMPRESSED and Path(path.stem).suffix == ".csv":
        return ".csv"
    return path.suffix if path.suffix in SUFFIXES else ""


def count_events(files: list[Path]) -> int:
    """How many events the files hold; of a CSV an estimate, from its size.

    Raises:
      DataError: a Parquet file is cut short.
    """
    total = 0
    for file in files:
        size = file.stat().st_size
        if kind_of(file) == ".parquet":
            with _errors(file):
                total += pq.read_metadata(file).num_rows if size else 0
        else:
            packed = file.suffix.lower() in COMPRESSED
            total += size * (COMPRESSION if packed else 1) // CSV_BYTES
    return total


def event_chunks(
    files: list[Path],
    rows: int,
    asked: Mapping[str, str] | None = None,
    reading: Reading | None = None,
    names: Renaming = SAME_NAMES,
) -> Iterator[pa.Table]:
    """Yields conforming events (schema.conform), a file or at most `rows` of a Parquet file.

    A CSV is read whole, as the type of a column is inferred from all its rows. Folders of the path
    such as surface=2 are columns, where the file has none of that name. Files without events are
    left out, where another one has some.

    Args:
      files: of the log.
      rows: at most, in a chunk.
      asked: how label rules ask for a signal (rules.asked).
      reading: takes what was left aside.
      names: columns that have other names in the files.

    Raises:
      DataError: as `read_events`.
    """
    reading, empty, found = reading or Reading(), [], False
    root = Path(os.path.commonpath([file.parent for file in files]))
    for file in files:
        start = 0
        for table in _tables(file, rows, names):
            if table.num_rows:
                table = names.apply(with_partitions(table, file, root), str(file), start)
                events = conform(table, str(file), start, asked, reading.repairs)
                reading.columns_left_out |= set(table.column_names) - set(events.column_names)
                yield events
            start += table.num_rows
        found = found or start > 0
        if not start:
            empty.append(file)
    if not found:
        nothing = names.apply(read_table(empty[0]), str(empty[0]))
        conform(nothing, str(empty[0]))  # says that it is empty
    if empty:
        logging.warning("files without events: %s", ", ".join(map(str, empty)))
        reading.empty_files += [str(file) for file in empty]


def _tables(file: Path, rows: int, names: Renaming) -> Iterator[pa.Table]:
    if not file.stat().st_size:
        return
    if kind_of(file) != ".parquet":
        yield read_table(file, names)
        return
    with _errors(file), pq.ParquetFile(file, pre_buffer=False) as stream:
        for batch in stream.iter_batches(rows):
            yield pa.Table.from_batches([batch])


def with_partitions(table: pa.Table, file: Path, root: Path) -> pa.Table:
    """The table with a column for each folder `name=value` between a log's folder and its file."""
    for part in file.parent.relative_to(root).parts:
        match = _PARTITION.fullmatch(part)
        if match and match[1] not in table.column_names:
            text = unquote(match[2])
            value: Any = int(text) if re.fullmatch(PLAIN_INTEGER, text) else text
            column = pa.array([None if text == _NO_VALUE else value] * table.num_rows)
            table = table.append_column(match[1], column)
    return table


def read_table(path: str | os.PathLike[str], names: Renaming = SAME_NAMES) -> pa.Table:
    """Reads a .parquet or .csv file.

    In a CSV, an empty field is null, times are integer milliseconds, and ids stay text here, so
    that leading zeros survive.

    Args:
      path: of the file.
      names: which of its columns are ids, where they have other names.

    Raises:
      DataError: the file is missing, cut short or of another kind.
    """
    path = Path(path)
    require_suffix(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with _errors(path):
        if kind_of(path) == ".parquet":
            return pq.ParquetFile(path).read()
        return read_csv(path, {names.of(name) for name in ID_COLUMNS})


def write_table(table: pa.Table, path: str | os.PathLike[str]) -> None:
    """Writes a .parquet or .csv file; it appears whole or not at all.

    A CSV is written `for_spreadsheets`.

    Raises:
      DataError: another suffix.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: a {' or '.join(SUFFIXES)} file is expected")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        if path.suffix.lower() == ".parquet":
            pq.write_table(table, temporary, compression="zstd")
        else:
            csv.write_csv(for_spreadsheets(table, str(path)), temporary)


def require_suffix(path: str | os.PathLike[str]) -> None:
    """Raises a DataError unless the path ends in .parquet or .csv, or in .csv.gz and the like."""
    if not kind_of(path):
        raise DataError(f"{path}: a {' or '.join(SUFFIXES)} file is expected")


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read, it may be cut short: {error}") from error
