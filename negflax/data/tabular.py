"""Events and items as people hold them: a file or folder, an Arrow table, or any data frame."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from absl import logging

from negflax.config import Config
from negflax.data.catalogue import Catalogue
from negflax.data.cells import DataError, Place
from negflax.data.columns import Column, flat, listed
from negflax.data.event_files import read_events, write_table
from negflax.data.histories import build_histories
from negflax.data.inputs import digest
from negflax.data.renaming import renaming
from negflax.data.rules import asked
from negflax.data.schema import is_ours
from negflax.data.sequences import Sequences

# A path, a pyarrow.Table, or any object with __arrow_c_stream__: pandas, polars, duckdb.
Data = str | os.PathLike[str] | pa.Table | Any


def is_path(data: Data) -> bool:
    """Whether the data is named by a path."""
    return isinstance(data, str | os.PathLike)


def arrow_table(data: Data, name: str = "data") -> pa.Table:
    """The table, or the stream of an object with `__arrow_c_stream__`, as a pyarrow.Table.

    Raises:
      DataError: it is neither, or holds what Arrow cannot.
    """
    if isinstance(data, pa.Table):
        return data
    if hasattr(data, "__arrow_c_stream__"):
        try:
            return _streamed(data)
        except MemoryError:
            raise
        except Exception as error:  # libraries of data frames raise errors of their own
            said = " ".join(str(error.args[0] if error.args else error).split())
            raise DataError(
                f"{name}{_unreadable(data)} cannot be read as an Arrow table ({said}): give each "
                "column a name of its own and values of one type, or leave it out"
            ) from error
    raise DataError(
        f"{name} is a {type(data).__name__}: give a path, a pyarrow.Table or a data frame with "
        "__arrow_c_stream__ (pandas 2.2, polars, duckdb); of a dict, pyarrow.table(dict)"
    )


def _streamed(data: Any) -> pa.Table:
    return pa.RecordBatchReader.from_stream(data).read_all()


def _unreadable(data: Any) -> str:
    """The first column of a data frame that Arrow cannot hold, for a message; "" if not known."""
    for column in getattr(data, "columns", ()):
        try:
            alone = data[[column]]
        except Exception:  # no pandas or polars
            return ""
        try:
            _streamed(alone)
        except Exception:
            return f": column `{column}`"
    return ""


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
      DataError: as arrow_table; or a column that is read is of a type that Parquet has not.
    """
    if is_path(data):
        return os.fspath(data)
    table = _storable(arrow_table(data, name), name)
    path = folder.resolve() / f"{name}-{digest(table)}.parquet"
    if not path.exists():
        write_table(table, path)
    return str(path)


def _storable(table: pa.Table, name: str) -> pa.Table:
    """The table in types that Parquet has; what has none is left out, and named in a warning.

    Raises:
      DataError: that is a column which the schema reads.
    """
    left = []
    for place, field in reversed([*enumerate(table.schema)]):
        if _fits_parquet(table.column(place)):
            continue
        plain = flat(table.column(place))
        if _fits_parquet(plain):
            table = table.set_column(place, field.name, plain)
        elif is_ours(field.name):
            problem, remedy = f"Parquet has no {field.type}", "convert it to numbers or text"
            raise Place(name, field.name).error(None, problem, remedy)
        else:
            table = table.remove_column(place)
            left.insert(0, f"{field.name} ({field.type})")
    if left:
        logging.warning(
            "%s: these columns are of types that Parquet has not, and are left out: %s",
            name,
            listed(left),
        )
    return table


def _fits_parquet(column: Column) -> bool:
    """Whether Parquet can hold a column, from its type and a few rows with any dictionary."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    few = pa.chunked_array([chunk[:10] for chunk in chunks], column.type)
    try:
        pq.write_table(pa.table({"": few}), io.BytesIO())
    except pa.ArrowNotImplementedError:
        return False
    return True
