"""Events and items as people hold them: a file or folder, an Arrow table, or any data frame."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from negflax.data.cells import DataError
from negflax.data.event_files import read_events, write_table
from negflax.data.inputs import digest

# A path, a pyarrow.Table, or any object with __arrow_c_stream__: pandas, polars, duckdb.
Data = str | os.PathLike[str] | pa.Table | Any


def is_path(data: Data) -> bool:
    """Whether the data is named by a path."""
    return isinstance(data, str | os.PathLike)


def arrow_table(data: Data, name: str = "data") -> pa.Table:
    """The table, or the stream of an object with `__arrow_c_stream__`, as a pyarrow.Table.

    Raises:
      DataError: it is neither.
    """
    if isinstance(data, pa.Table):
        return data
    if hasattr(data, "__arrow_c_stream__"):
        return pa.RecordBatchReader.from_stream(data).read_all()
    raise DataError(
        f"{name} is a {type(data).__name__}: give a path, a pyarrow.Table or a data frame with "
        "__arrow_c_stream__ (pandas 2.2, polars, duckdb); of a dict, pyarrow.table(dict)"
    )


def as_events(data: Data) -> tuple[pa.Table, str]:
    """Events to serve from, and their name for messages.

    Raises:
      DataError: the file cannot be read, or the data is of no such kind.
    """
    if is_path(data):
        return read_events(os.fspath(data))[0], os.fspath(data)
    return arrow_table(data, "events"), "events"


def as_file(data: Data, folder: Path, name: str) -> str:
    """A path to the data: its own, or that of a Parquet file in the folder that now holds it.

    The file is named after its content, so that the same table is written once and another one
    changes the config that names the file.

    Raises:
      DataError: as arrow_table.
    """
    if is_path(data):
        return os.fspath(data)
    table = arrow_table(data, name)
    path = folder.resolve() / f"{name}-{digest(table)}.parquet"
    if not path.exists():
        write_table(table, path)
    return str(path)
