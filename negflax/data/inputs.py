"""Where the cache gets events from: what tells them from other events, and how to prepare them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from negflax.config import Config
from negflax.data.cells import DataError
from negflax.data.files import CHUNK_EVENTS, count_events, event_chunks, event_files, read_items
from negflax.data.parts import Parts, partition
from negflax.data.schema import conform, validate
from negflax.data.sequences import prepare
from negflax.data.sources import builder_dir, import_prepared, open_source


class Input(Protocol):
    """Events and how to prepare them."""

    def identity(self) -> str:
        """Differs where the data does."""

    def prepare(self, scratch: Path, config: Config, *rest: Any) -> dict[str, Any]:
        """What sequences.prepare returns.

        Args:
          scratch: an empty folder, for about the bytes that the events take in memory.
          config: the run's.
          *rest: catalogue, write and known of sequences.prepare.
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
        events, repairs = validate(raw.events, raw.name)
        return prepare(Parts([lambda: events]), raw.items, repairs, raw.name, config, *rest)


class _Files:
    """The files of an event log, of any size, known by their names, sizes and times."""

    def __init__(self, config: Config) -> None:
        self._files = event_files(config.data.path, config.data.items_path)
        self._items_path = config.data.items_path

    def identity(self) -> str:
        return _stamps([*self._files, *([Path(self._items_path)] if self._items_path else [])])

    def prepare(self, scratch: Path, config: Config, *rest: Any) -> dict[str, Any]:
        items, name = read_items(self._items_path), config.data.source
        chunks = event_chunks(self._files, CHUNK_EVENTS)
        parts, repairs = partition(chunks, count_events(self._files), scratch, name)
        return prepare(parts, items, repairs, name, config, *rest)


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
        parts, repairs = partition(self._chunks(name), self._num_events, scratch, name)
        return prepare(parts, self._items, repairs, name, config, *rest)

    def _chunks(self, name: str) -> Iterator[pa.Table]:
        start = 0
        for block in self._blocks:
            yield conform(block, name, start)
            start += block.num_rows


def _stamps(files: list[Path]) -> str:
    found = []
    for file in files:
        if not file.is_file():
            raise DataError(f"{file}: there is no such file")
        found.append((file.name, file.stat().st_size, file.stat().st_mtime_ns))
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
