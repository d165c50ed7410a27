"""Events in parts, each of whole users, so that a log of any size passes through bounded memory.

`partition` reads a log chunk by chunk and spreads it over files by a hash of the user; each file is
then sorted on its own (schema.order). What is in memory at a time is a few chunks or a few parts.
"""

from __future__ import annotations

import dataclasses
import os
import time
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from absl import logging

from negflax.data.cells import DataError
from negflax.data.columns import ID_COLUMNS, PLAIN_INTEGER, flat, is_text, whole_numbers
from negflax.data.schema import as_signals, binary, order, spans

PART_EVENTS = 1_000_000  # of an average part; WORKERS parts are in memory at a time
MAX_PARTS = 512  # files that are open at a time while events are spread
WORKERS = min(4, os.cpu_count() or 1)
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: consecutive ids spread evenly


class Parts:
    """Events in parts, loaded when they are asked for; `map` works on a few at a time."""

    def __init__(self, loads: list[Callable[[], pa.Table]], workers: int = 1) -> None:
        """Takes one function a part."""
        self._loads, self._workers = loads, workers

    def __len__(self) -> int:
        """How many parts."""
        return len(self._loads)

    def first(self) -> pa.Table:
        """The first part."""
        return self._loads[0]()

    def then(self, change: Callable[[pa.Table], pa.Table]) -> Parts:
        """The parts after a change."""
        return Parts([lambda load=load: change(load()) for load in self._loads], self._workers)

    def map(self, function: Callable[[pa.Table], Any]) -> Iterator[Any]:
        """Yields function(part) for each part, in order."""
        return in_order((lambda load=load: function(load()) for load in self._loads), self._workers)


def in_order(jobs: Iterable[Callable[[], Any]], workers: int) -> Iterator[Any]:
    """Yields the jobs' results in order; `workers` threads, and no more results wait than that."""
    if workers == 1:
        yield from (job() for job in jobs)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Any] = deque()
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def partition(
    chunks: Iterable[pa.Table],
    num_events: int,
    folder: Path,
    name: str,
    asked: Mapping[str, str] | None = None,
) -> tuple[Parts, dict[str, int]]:
    """Spreads a log over files by user and sorts each of them.

    Args:
      chunks: conforming events (schema.conform), whose columns may differ from chunk to chunk.
      num_events: about how many there are.
      folder: empty; for about as many bytes as the events take in memory.
      name: of the log, for messages.
      asked: as schema.order.

    Returns:
      (the parts, validated, which read from the folder; counted repairs, as schema.validate).

    Raises:
      DataError: the chunks disagree on the type of a column.
    """
    num_parts = min(max(1, -(-num_events // PART_EVENTS)), MAX_PARTS)
    spread = _Spread(folder)
    progress = Progress(f"{name}: reading", num_events)
    for chunk, place in in_order((lambda c=c: by_part(c, num_parts) for c in chunks), WORKERS):
        spread.write(chunk, place)
        progress.add(chunk.num_rows)
    spread.close()
    schema, signals = spread.kinds.schema(name), binary(spread.kinds.spans)
    repairs: dict[str, int] = {}
    progress = Progress(f"{name}: sorting", progress.done)

    def sort(part: int) -> tuple[Path, dict[str, int], int]:
        files = spread.files(part)
        events, found = finish([_read(file) for file in files], schema, signals, asked)
        path = folder / f"part-{part:05d}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, events.schema) as writer:
            writer.write_table(events)
        for file in files:
            file.unlink()
        return path, found, events.num_rows

    paths = []
    used = [part for part in range(num_parts) if spread.files(part)]
    for path, found, rows in in_order((lambda p=p: sort(p) for p in used), WORKERS):
        paths.append(path)
        for repair, count in found.items():
            repairs[repair] = repairs.get(repair, 0) + count
        progress.add(rows)
    return Parts([lambda path=path: _read(path) for path in paths], WORKERS), repairs


def finish(
    tables: list[pa.Table],
    schema: pa.Schema,
    signals: list[str],
    asked: Mapping[str, str] | None = None,
) -> tuple[pa.Table, dict[str, int]]:
    """Puts the chunks of one part together: sorted, without duplicates.

    Args:
      tables: conforming events of whole users.
      schema: of the whole log (Kinds.schema).
      signals: integer columns that are signals (schema.binary of Kinds.spans).
      asked: as schema.order.

    Returns:
      (events, counted repairs), as `schema.validate`.
    """
    return order(as_signals(put_together(tables, schema).combine_chunks(), signals), asked)


def put_together(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    """Conforming chunks one after the other, in the columns and types of the whole log."""
    return pa.concat_tables([_conform(table, schema) for table in tables])


@dataclasses.dataclass
class Kinds:
    """What the chunks of a log, seen in any order, say together about its columns.

    Attributes:
      schemas: that occur.
      words: id columns with text that is no whole number.
      spans: (smallest, largest) of columns that may be signals (schema.spans).
    """

    schemas: list[pa.Schema] = dataclasses.field(default_factory=list)
    words: set[str] = dataclasses.field(default_factory=set)
    spans: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    def add(self, chunk: pa.Table) -> Kinds:
        """One more chunk."""
        words = {n for n in ID_COLUMNS if n in chunk.column_names and not whole_numbers(chunk[n])}
        return self.join(Kinds([chunk.schema], words, spans(chunk)))

    def join(self, other: Kinds) -> Kinds:
        """What the chunks of another say, too."""
        self.schemas += [schema for schema in other.schemas if schema not in self.schemas]
        self.words |= other.words
        for column, (low, high) in other.spans.items():
            before = self.spans.get(column, (low, high))
            self.spans[column] = min(low, before[0]), max(high, before[1])
        return self

    def schema(self, name: str) -> pa.Schema:
        """What all of them become: ids are text where one is no whole number.

        Raises:
          DataError: the chunks disagree on the type of a column.
        """
        kinds = {n: pa.string() if n in self.words else pa.int64() for n in ID_COLUMNS}
        bits = set(binary(self.spans))
        mixed = {f.name for s in self.schemas for f in s if pa.types.is_boolean(f.type)}
        # 0 and 1 in one file, true and false in another: one signal.
        kinds |= {n: pa.bool_() if n in bits else pa.float64() for n in mixed if n in self.spans}
        schemas = [
            pa.schema([f.with_type(kinds.get(f.name, f.type)) for f in schema])
            for schema in self.schemas
        ]
        try:
            return pa.unify_schemas(schemas, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise disagree(name, error) from error


class Progress:
    """Tells events, rate and time left in the log, every few seconds."""

    def __init__(self, what: str, total: int, every_s: float = 5.0) -> None:
        """Starts the clock."""
        self._what, self._total, self._every_s = what, total, every_s
        self._start = self._last = time.monotonic()
        self.done = 0

    def add(self, events: int) -> None:
        """So many more are done."""
        self.done += events
        now = time.monotonic()
        if now - self._last >= self._every_s:
            self._last = now
            rate = self.done / (now - self._start)
            left = max(self._total - self.done, 0) / rate
            logging.info(
                "%s %.1f of %.1f M events  %.2f M/s  ETA %d:%02d",
                self._what,
                self.done / 1e6,
                self._total / 1e6,
                rate / 1e6,
                *divmod(round(left), 60),
            )


class _Spread:
    """Files of events: for each part, one for every run of chunks of one schema, in their order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[int, pa.ipc.RecordBatchFileWriter] = {}
        self._files: dict[int, list[Path]] = defaultdict(list)
        self._schema: pa.Schema | None = None
        self._run = 0
        self.kinds = Kinds()

    def write(self, chunk: pa.Table, place: np.ndarray) -> None:
        """Events sorted by part, those of part p at [place[p], place[p + 1])."""
        self.kinds.add(chunk)
        if self._schema != chunk.schema:  # events keep the order of the chunks, which orders ties
            self.close()
            self._schema, self._run = chunk.schema, self._run + 1
        for part in np.flatnonzero(np.diff(place)).tolist():
            if part not in self._writers:
                path = self._folder / f"unsorted-{part:05d}-{self._run}.arrow"
                self._files[part].append(path)
                self._writers[part] = pa.ipc.new_file(str(path), chunk.schema)
            rows = chunk.slice(place[part], place[part + 1] - place[part])
            self._writers[part].write_table(rows)

    def close(self) -> None:
        """The files are whole from here on."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def files(self, part: int) -> list[Path]:
        """In the order in which their events were written."""
        return self._files.get(part, [])


def disagree(name: str, error: Exception) -> DataError:
    """Two files of a log cannot be put together."""
    return DataError(
        f"{name}: its files disagree on the type of a column ({error}): write it alike in all"
    )


def user_hash(user_id: pa.Array) -> np.ndarray:
    """uint64 hashes of an id column without nulls; 17 and "17" have the same."""
    if not is_text(user_id.type):
        code = user_id.to_numpy().view(np.uint64)
    else:
        encoded = user_id.dictionary_encode()
        words = encoded.dictionary
        plain = pc.match_substring_regex(words, PLAIN_INTEGER)
        numbers = pc.cast(pc.if_else(plain, words, "0"), pa.int64()).to_numpy()
        code_I = numbers.view(np.uint64).copy()
        for i in np.flatnonzero(~plain.to_numpy(zero_copy_only=False)):
            code_I[i] = zlib.crc32(words[int(i)].as_py().encode())
        code = code_I[encoded.indices.to_numpy()]
    return (code ^ (code >> np.uint64(32))) * _ODD


def by_part(chunk: pa.Table, num_parts: int) -> tuple[pa.Table, np.ndarray]:
    """The events sorted by part, those of part p at [place[p], place[p + 1]), and place."""
    part_E = (user_hash(flat(chunk["user_id"])) >> np.uint64(32)) % np.uint64(num_parts)
    part_E = part_E.astype(np.uint16)  # a stable sort of 16 bits is a radix sort
    place = np.append(0, np.cumsum(np.bincount(part_E, minlength=num_parts)))
    return chunk.take(pa.array(np.argsort(part_E, kind="stable"))), place


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the columns and types of the schema."""
    columns = dict(zip(table.column_names, table.columns, strict=True))
    return pa.table(
        {
            field.name: columns[field.name].cast(field.type)
            if field.name in columns
            else pa.nulls(table.num_rows, field.type)
            for field in schema
        },
        schema=schema,
    )


def _read(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()
