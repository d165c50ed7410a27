"""Events and items as people hold them: a file or folder, an Arrow table, or any data frame."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from negflax.config import Config
from negflax.data.catalogue import Catalogue
from negflax.data.cells import DataError
from negflax.data.event_files import read_events, write_table
from negflax.data.histories import build_histories
from negflax.data.inputs import digest
from negflax.data.renaming import renaming
from negflax.data.rules import asked
from negflax.data.sequences import Sequences

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


def read_histories(data: Data, config: Config, catalogue: Catalogue, name: str = "") -> Sequences:
    """Histories to serve from, read as the run's own log was: one log gives the same in both.

    Args:
      data: an event log, which may lack columns that only labels need.
      config: of the run: how columns are called, and what its label rules ask for.
      catalogue: of the run.
      name: of the log, for messages; by default its path, or `events`.

    Raises:
      DataError: the file cannot be read, unusable events, or the data is of no such kind.
    """
    how, columns = asked(config.labels), config.data.columns
    if is_path(data):
        name = name or os.fspath(data)
        table, _ = read_events(os.fspath(data), asked=how, columns=columns, partial=True)
    else:
        name = name or "events"
        table = renaming(columns, partial=True).apply(arrow_table(data, name), name)
    return build_histories(table, catalogue, name, config.labels)


def is_named_by_content(path: str) -> bool:
    """Whether `as_file` may have written a file, so that its name says what is in it."""
    return bool(re.fullmatch(r"(events|items)-[0-9a-f]{16}\.parquet", Path(path).name))


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
