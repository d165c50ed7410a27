"""Parquet and CSV files of events and items."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from negflax.data.cells import DataError
from negflax.data.columns import ID_COLUMNS, PLAIN_INTEGER, alike
from negflax.data.parts import disagree
from negflax.data.schema import conform, validate_items

SUFFIXES = (".parquet", ".csv")
CHUNK_EVENTS = 1_000_000
CSV_BYTES = 40  # of an average event


def read_events(path: str, items_path: str = "") -> tuple[pa.Table, pa.Table | None]:
    """Reads an event log, and an item table where a path is given.

    Args:
      path: a .parquet or .csv file, or a folder of them, which is read in the order of the names.
      items_path: a .parquet or .csv file.

    Returns:
      (events in canonical types, items or None).

    Raises:
      DataError: a file is missing, cut short or fails the schema; rows count within their file.
    """
    files = event_files(path, items_path)
    parts = list(event_chunks(files, CHUNK_EVENTS))
    try:
        events = pa.concat_tables(alike(parts, ID_COLUMNS), promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise disagree(str(path), error) from error
    items = read_items(items_path)
    return _numeric_ids(events), items


def read_items(path: str) -> pa.Table | None:
    """Reads an item table; None where the path is empty.

    Raises:
      DataError: as `read_events`.
    """
    return _numeric_ids(validate_items(read_table(path), path)) if path else None


def event_files(path: str, items_path: str = "") -> list[Path]:
    """The files of an event log, in the order of their names.

    Raises:
      DataError: there is none, or it is of another kind.
    """
    place = Path(path)
    with _errors(place):
        if place.is_dir():
            files = sorted(
                file
                for file in place.iterdir()
                if file.suffix in SUFFIXES
                and not file.name.startswith((".", "_"))
                and not (items_path and os.path.samefile(file, items_path))
            )
            if not files:
                raise DataError(f"{place}: no {' or '.join(SUFFIXES)} file is in this folder")
            return files
        require_suffix(place)
        if not place.is_file():
            raise DataError(f"{place}: there is no such file")
        return [place]


def count_events(files: list[Path]) -> int:
    """How many events the files hold; of a CSV an estimate, from its size.

    Raises:
      DataError: a Parquet file is cut short.
    """
    total = 0
    for file in files:
        if file.suffix == ".parquet":
            with _errors(file):
                total += pq.read_metadata(file).num_rows
        else:
            total += file.stat().st_size // CSV_BYTES
    return total


def event_chunks(files: list[Path], rows: int) -> Iterator[pa.Table]:
    """Yields conforming events (schema.conform), a file or at most `rows` of a Parquet file.

    A CSV is read whole, as the type of a column is inferred from all its rows.

    Raises:
      DataError: as `read_events`.
    """
    for file in files:
        if file.suffix != ".parquet":
            yield conform(read_table(file), str(file))
            continue
        start = 0
        with _errors(file), pq.ParquetFile(file, pre_buffer=False) as stream:
            for batch in stream.iter_batches(rows):
                yield conform(pa.Table.from_batches([batch]), str(file), start)
                start += batch.num_rows
            if not start:
                conform(stream.schema_arrow.empty_table(), str(file))  # says that it is empty


def read_table(path: str | os.PathLike[str]) -> pa.Table:
    """Reads a .parquet or .csv file.

    In a CSV, an empty field is null, times are integer milliseconds, and ids stay text here, so
    that leading zeros survive.

    Raises:
      DataError: the file is missing, cut short or of another kind.
    """
    path = Path(path)
    require_suffix(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with _errors(path):
        return pq.ParquetFile(path).read() if path.suffix == ".parquet" else _read_csv(path)


def write_table(table: pa.Table, path: str | os.PathLike[str]) -> None:
    """Writes a .parquet or .csv file; it appears whole or not at all.

    Raises:
      DataError: another suffix.
    """
    path = Path(path)
    require_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    if path.suffix == ".parquet":
        pq.write_table(table, temporary, compression="zstd")
    else:
        csv.write_csv(table, temporary)
    os.replace(temporary, path)


def require_suffix(path: str | os.PathLike[str]) -> None:
    """Raises a DataError unless the path ends in .parquet or .csv."""
    if Path(path).suffix not in SUFFIXES:
        raise DataError(f"{path}: a {' or '.join(SUFFIXES)} file is expected")


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read, it may be cut short: {error}") from error


def _read_csv(path: Path) -> pa.Table:
    # One block: the type of a column is then inferred from all its rows, and text far down in a
    # number column reaches the schema check, which names its row.
    size = min(max(path.stat().st_size + 1, 1024), 2**31 - 1)
    return csv.read_csv(
        path,
        read_options=csv.ReadOptions(block_size=size),
        convert_options=csv.ConvertOptions(
            column_types={name: pa.string() for name in ID_COLUMNS},
            null_values=["", "null", "NULL"],
            strings_can_be_null=True,
        ),
    )


def _numeric_ids(table: pa.Table) -> pa.Table:
    """Text ids as int64 where every one is a plain integer: less memory, faster look-ups."""
    for name in ID_COLUMNS:
        if name in table.column_names and pa.types.is_string(table[name].type):
            distinct = pc.drop_null(pc.unique(table[name]))
            plain = pc.match_substring_regex(distinct, PLAIN_INTEGER)
            if len(distinct) and pc.all(plain).as_py():
                place = table.column_names.index(name)
                table = table.set_column(place, name, table[name].cast(pa.int64()))
    return table
