"""A user's own logs: any number of Parquet, CSV and Arrow files of any size, in any columns."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from absl import logging

from negflax.data import cells
from negflax.data.builders.base import ITEMS, LogBuilder, LogConfig, Part
from negflax.data.builders.mapping import FILE, Mapping, read_mapping
from negflax.data.builders.parquet import ARROW_SUFFIXES, batches, schema_of
from negflax.data.builders.text import FLOAT, INT, TEXT, read_header, read_text
from negflax.data.cells import DataError
from negflax.data.columns import PLAIN_INTEGER, is_binary, is_list, is_number, is_text
from negflax.data.event_files import kind_of, read_items, with_partitions
from negflax.data.parts import partition
from negflax.data.schema import NOT_SIGNALS, READ, conform
from negflax.data.times import is_time

SUFFIXES = (".parquet", ".csv", *ARROW_SUFFIXES)
_BYTES = 40  # of an average event in a file; only the number of shards depends on it


class EventLogs(LogBuilder):
    """One split, `events`, sorted by user and time; each file holds the users of one hash.

    Beside the logs, the folder may hold mapping.toml (mapping.py) and an item table, items.parquet
    or items.csv. Exact duplicates are dropped, and counted in the metadata.
    """

    DESCRIPTION = "A user's own event log. An example is a block of events of whole users' hashes."
    CITATION = "A private event log, prepared by negflax; it has no publication to be cited."
    LICENSE = "The user's own"
    HOMEPAGE = ""
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put the logs (.parquet, .csv, .arrow or .feather, in any folders), and mapping.toml where "
        "their columns have other names, into manual_dir."
    )

    @classmethod
    def configs_for(cls, name: str, manual_dir: str, scratch: Path) -> list[LogConfig]:
        """See the base class; the log is sorted here, as its columns are known only then."""
        folder = cls.folder(manual_dir)
        files, items = log_files(folder)
        events = sum(path.stat().st_size for path in files) // _BYTES
        parts, repairs = partition(
            chunks(files, read_mapping(folder)), events, scratch, f"event_logs/{name}"
        )
        columns = parts.first().schema
        configs = [LogConfig(name=name, columns=columns, parts=parts, left_out=repairs)]
        if items:
            columns = read_items(str(items)).schema
            configs.append(
                LogConfig(name=name + ITEMS, files=(items.name,), columns=columns, items=True)
            )
        return configs

    def shards(self, files: dict[str, Path]) -> dict[str, Iterator[list[Part]]]:
        """See the base class."""
        if self.builder_config.items:
            (path,) = files.values()
            return {"items": iter([[(path, read_items(str(path)))]])}
        self.left_out.update(self.builder_config.left_out)
        numbered = enumerate(self.builder_config.parts.map(lambda part: part))
        return {"events": ([(Path(f"shard-{i}"), part)] for i, part in numbered)}

    def tables(self, files: dict[str, Path]) -> dict[str, Iterator[Part]]:
        """See the base class."""
        return {
            split: (part for shard in shards for part in shard)
            for split, shards in self.shards(files).items()
        }


def log_files(folder: Path) -> tuple[list[Path], Path | None]:
    """(the log's files in the order of their paths, item table or None) of a folder.

    Raises:
      DataError: there is no log.
    """
    items = next((p for p in (folder / "items.parquet", folder / "items.csv") if p.is_file()), None)
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if (kind_of(path) or path.suffix.lower() in ARROW_SUFFIXES)
        and path.is_file()
        and path != items
        and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    ]
    if not files:
        raise DataError(f"{folder}: no {', '.join(SUFFIXES)} file is in it ({FILE} is not a log)")
    return files, items


def chunks(files: list[Path], mapping: Mapping) -> Iterator[pa.Table]:
    """Conforming events of the files, some ten thousand at a time.

    Raises:
      DataError: a file is cut short or fails the schema; rows count within their file.
    """
    found = False
    root = Path(os.path.commonpath([path.parent for path in files]))
    for path in files:
        start = 0
        for table in _tables(path, mapping) if path.stat().st_size else ():
            if table.num_rows:
                table = mapping.apply(with_partitions(table, path, root), str(path), start)
                yield conform(table, str(path), start)
            start += table.num_rows
        found = found or start > 0
        if not start:
            logging.warning("%s has no events", path)
    if not found:
        what = ": the table has no rows" if files[0].stat().st_size else " is empty"
        raise DataError(f"{files[0]}{what}: give at least one event")


def _tables(path: Path, mapping: Mapping) -> Iterator[pa.Table]:
    if kind_of(path) != ".csv":
        kinds = schema_of(path)
        useful = [n for n in kinds.names if _useful(kinds.field(n).type)]
        return batches(path, useful)
    # Columns of ours are read as text, so that a value that is none is told with its row; of the
    # others, which may be for label rules, the type has to be found out first.
    header = read_header(path)
    ours = [n for n in header if _is_ours(mapping.columns.get(n, n))]
    kinds = dict.fromkeys(ours, TEXT) | _numbers(path, [n for n in header if n not in ours])
    return read_text(path, {n: kinds[n] for n in header if n in kinds})


def _is_ours(name: str) -> bool:
    return name in READ or name in NOT_SIGNALS or is_time(name)


def _useful(kind: pa.DataType) -> bool:
    plain = is_text(kind) or is_number(kind) or is_list(kind) or pa.types.is_boolean(kind)
    temporal = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    encoded = pa.types.is_dictionary(kind) or pa.types.is_string_view(kind) or is_binary(kind)
    return plain or temporal or encoded


def _numbers(path: Path, names: list[str]) -> dict[str, pa.DataType]:
    """{name: int64 or float64} of those columns that hold nothing but numbers."""
    kinds = dict.fromkeys(names, INT)
    for table in read_text(path, dict.fromkeys(names, TEXT)) if names else ():
        for name in list(kinds):
            column = table[name]
            if kinds[name] == INT and not _all(column, PLAIN_INTEGER):
                kinds[name] = FLOAT
            if kinds[name] == FLOAT and not _all(column, cells.NUMBER):
                del kinds[name]
    return kinds


def _all(column: pa.ChunkedArray, pattern: str) -> bool:
    return pc.all(pc.match_substring_regex(column, pattern), min_count=0).as_py()
