"""Streams Parquet and Arrow files as tables: bounded memory, errors with file and column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from negflax.data.builders.blocks import ROWS
from negflax.data.cells import DataError

ARROW_SUFFIXES = (".arrow", ".feather", ".ipc")


def read_parquet(path: Path, columns: Mapping[str, pa.DataType]) -> Iterator[pa.Table]:
    """Reads some columns of a .parquet or Arrow file, block by block.

    Args:
      path: the file.
      columns: {name: type} of the columns to read; a value that does not fit is an error.

    Raises:
      DataError: the file is missing or cut short, lacks a column, or holds a value that its column
        cannot.
    """
    require(path, columns, schema_of(path).names)
    for table in batches(path, list(columns)):
        for i, (name, kind) in enumerate(columns.items()):
            try:
                table = table.set_column(i, name, table[name].cast(kind))
            except pa.ArrowException as error:
                raise DataError(f"{path}: column `{name}`: {error}; write {kind}") from error
        yield table


def schema_of(path: Path) -> pa.Schema:
    """Names and types of the columns of a .parquet or Arrow file.

    Raises:
      DataError: the file is missing or cut short.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        if path.suffix in ARROW_SUFFIXES:
            with pa.memory_map(str(path)) as source:
                return _open_arrow(source).schema
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from error


def batches(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The columns of a .parquet or Arrow file in their own types, at most ROWS rows at a time."""
    try:
        if path.suffix in ARROW_SUFFIXES:
            with pa.memory_map(str(path)) as source:
                file = _open_arrow(source)
                for i in range(file.num_record_batches):
                    yield pa.Table.from_batches([file.get_batch(i)]).select(columns)
        else:
            with pq.ParquetFile(path, memory_map=True) as file:
                for batch in file.iter_batches(ROWS, columns=list(columns)):
                    yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from error


def require(path: Path, wanted: Mapping[str, object] | Sequence[str], names: Sequence[str]) -> None:
    """Raises a DataError where a column is missing."""
    for name in wanted:
        if name not in names:
            raise DataError(
                f"{path}: column `{name}` is missing; the file has {', '.join(names)}: is this the "
                "original file?"
            )


def _open_arrow(source: pa.MemoryMappedFile) -> ipc.RecordBatchFileReader:
    return ipc.open_file(source)


def _broken(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read, it may be cut short: {error}; write it again")
