"""Where the cache gets events from: what tells them from other events, and how to prepare them."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from negflax.config import Config
from negflax.data.cells import DataError
from negflax.data.event_arrays import ValidLog, prepare
from negflax.data.event_files import (
    CHUNK_EVENTS,
    Reading,
    count_events,
    event_chunks,
    event_files,
    read_items,
)
from negflax.data.parts import Parts, partition
from negflax.data.renaming import renaming
from negflax.data.rules import asked
from negflax.data.schema import conform, validate
from negflax.data.sources import builder_dir, import_prepared, open_source

WHOLE_BYTES = 64 * 2**20  # files up to this size are hashed whole
SAMPLES, SAMPLE_BYTES = 64, 2**18  # of larger ones


class Input(Protocol):
    """Events and how to prepare them."""

    def identity(self) -> str:
        """Differs where the data does."""

    def prepare(self, scratch: Path, config: Config, *rest: Any) -> dict[str, Any]:
        """What event_arrays.prepare returns.

        Args:
          scratch: an empty folder, for about the bytes that the events take in memory.
          config: the run's.
          *rest: catalogue, write and known of event_arrays.prepare.
        """


def open_input(config: Config, workdir: str | os.PathLike[str]) -> Input:
    """Opens config.data.source: its files, or itself where it is small.

    Raises:
      DataError: as sources.open_source.
    """
    if config.data.source == "event_log":
        return _Files(config)
    if "/" in config.data.source:
        return _Builder(config, workdir)
    return _Table(config, workdir)


class _Table:
    """A source that fits into memory, known by its content."""

    def __init__(self, config: Config, workdir: str | os.PathLike[str]) -> None:
        self._raw = open_source(config, workdir)

    def identity(self) -> str:
        tables = (self._raw.events, self._raw.items)
        return digest(self._raw.name, *[table for table in tables if table is not None])

    def prepare(self, scratch: Path, config: Config, *rest: Any) -> dict[str, Any]:
        raw = self._raw
        events, repairs = validate(raw.events, raw.name, asked(config.labels))
        log = ValidLog(raw.name, Parts([lambda: events]), raw.items, repairs)
        found = prepare(log, config, *rest)
        left = set(raw.events.column_names) - set(events.column_names)
        found["report"] |= Reading(columns_left_out=left).report()
        return found


class _Files:
    """The files of an event log, of any size, known by their content (`_stamps`)."""

    def __init__(self, config: Config) -> None:
        self._reading = Reading()
        self._files = event_files(config.data.path, config.data.items_path, self._reading)
        self._items_path = config.data.items_path
        self._columns, self._item_columns = config.data.columns, config.data.item_columns

    def identity(self) -> str:
        return _stamps([*self._files, *([Path(self._items_path)] if self._items_path else [])])

    def prepare(self, scratch: Path, config: Config, *rest: Any) -> dict[str, Any]:
        name, how, reading = config.data.source, asked(config.labels), copy.deepcopy(self._reading)
        items = read_items(self._items_path, self._item_columns, reading)
        names = renaming(self._columns)
        chunks = event_chunks(self._files, CHUNK_EVENTS, how, reading, names)
        parts, repairs = partition(chunks, count_events(self._files), scratch, name, how)
        log = ValidLog(name, parts, items, repairs | reading.repairs)
        found = prepare(log, config, *rest)
        found["report"] |= reading.report()
        return found


class _Builder:
    """A data set that a builder has prepared, of any size, known as the files of a log are."""

    def __init__(self, config: Config, workdir: str | os.PathLike[str]) -> None:
        opened = import_prepared(config).open_blocks(
            config.data.source, builder_dir(config, workdir)
        )
        self._files, self._num_events, self._blocks, self._items = opened

    def identity(self) -> str:
        return _stamps(self._files)

    def prepare(self, scratch: Path, config: Config, *rest: Any) -> dict[str, Any]:
        name = config.data.source
        mended: Counter[str] = Counter()
        how = asked(config.labels)
        chunks = self._chunks(name, how, mended)
        parts, repairs = partition(chunks, self._num_events, scratch, name, how)
        log = ValidLog(name, parts, self._items, repairs | mended)
        return prepare(log, config, *rest)

    def _chunks(self, name: str, how: dict[str, str], mended: Counter[str]) -> Iterator[pa.Table]:
        start = 0
        for block in self._blocks:
            yield conform(block, name, start, how, mended)
            start += block.num_rows


def _stamps(files: list[Path]) -> str:
    """Tells files from others: by path and time, and by their bytes, of large ones samples.

    The samples hold both ends, and so the footer of a Parquet file.
    """
    found = []
    for file in files:
        if not file.is_file():
            raise DataError(f"{file}: there is no such file")
        stat = file.stat()
        content = hashlib.blake2b(digest_size=16)
        with open(file, "rb") as stream:
            if stat.st_size <= WHOLE_BYTES:
                content.update(stream.read())
            else:
                for i in range(SAMPLES):
                    stream.seek(i * (stat.st_size - SAMPLE_BYTES) // (SAMPLES - 1))
                    content.update(stream.read(SAMPLE_BYTES))
        place = os.path.realpath(file)
        found.append((place, stat.st_size, stat.st_mtime_ns, content.hexdigest()))
    return digest(json.dumps(found))


def digest(*parts: str | np.ndarray | pa.Table) -> str:
    """A short hash of the content, in hexadecimal digits."""
    found = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, pa.Table):
            found.update(str(part.schema.remove_metadata()).encode())
            for batch in part.combine_chunks().to_batches():
                found.update(batch.serialize())
        else:
            found.update(part.encode() if isinstance(part, str) else part.tobytes())
        found.update(b"\0")
    return found.hexdigest()
