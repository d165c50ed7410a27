"""The preparation of event logs on many machines, as an Apache Beam pipeline (extra `beam`).

Beam is a thin wrapper: each file is spread by a hash of the user, by a pure function (`spread`);
the pieces of a shard are put together by another (`finish` of parts.py), which the preparation on
one machine uses too. The result is a folder of Parquet shards, each of whole users, that the source
`event_log` reads; a training host may be given its own shards alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from negflax.data.builders.event_logs import chunks, log_files
from negflax.data.builders.mapping import Mapping, read_mapping
from negflax.data.cells import DataError
from negflax.data.parts import Kinds, by_part, finish
from negflax.data.schema import binary

MANIFEST = "manifest.json"  # written last: a folder without it is not whole
_KINDS = "kinds"


def run(folder: str, out: str, num_shards: int, options: list[str]) -> dict[str, Any]:
    """Prepares a folder of logs into shards by user hash.

    Args:
      folder: as the builder `event_logs` takes it, where every worker can read it.
      out: folder for the shards; must not hold any.
      num_shards: how many; users are spread evenly, so a multiple of the training hosts is best.
      options: of Beam, such as --runner=DirectRunner.

    Returns:
      The manifest: rows of each shard, and counted repairs.

    Raises:
      DataError: unusable logs, or shards that are there already.
    """
    if FileSystems.exists(FileSystems.join(out, MANIFEST)):
        raise DataError(f"{out} holds shards already: name another folder, or remove them")
    if num_shards < 1:
        raise DataError(f"{num_shards} shards: at least 1 is needed")
    files, _ = log_files(Path(folder))
    mapping = read_mapping(Path(folder))
    if not FileSystems.exists(out):
        FileSystems.mkdirs(out)
    with beam.Pipeline(options=PipelineOptions(options)) as pipeline:
        spreaded = (
            pipeline
            | "files" >> beam.Create(list(enumerate(map(str, files))))
            | "one a worker" >> beam.Reshuffle()
            | "spread"
            >> beam.FlatMap(spread, mapping, num_shards).with_outputs(_KINDS, main="main")
        )
        kinds = spreaded[_KINDS] | "kinds" >> beam.CombineGlobally(_join)
        counts = (
            spreaded.main
            | "by shard" >> beam.GroupByKey()
            | "finish" >> beam.Map(_finish, beam.pvalue.AsSingleton(kinds), out, num_shards)
        )
        _ = (
            counts
            | "count" >> beam.CombineGlobally(beam.combiners.ToListCombineFn())
            | "manifest" >> beam.Map(_manifest, out, num_shards)
        )
    with FileSystems.open(FileSystems.join(out, MANIFEST)) as file:
        return json.loads(file.read())


def spread(
    numbered: tuple[int, str], mapping: Mapping, num_shards: int
) -> Iterator[tuple[int, tuple[int, int, bytes]] | Any]:
    """Yields (shard, (file, chunk, events)) of one file, and its Kinds aside."""
    number, path = numbered
    kinds = Kinds()
    for i, chunk in enumerate(chunks([Path(path)], mapping)):
        kinds.add(chunk)
        chunk, place = by_part(chunk, num_shards)
        for shard in range(num_shards):
            events = chunk.slice(place[shard], place[shard + 1] - place[shard])
            if events.num_rows:
                yield shard, (number, i, _pack(events))
    yield beam.pvalue.TaggedOutput(_KINDS, kinds)


def _finish(
    pieces: tuple[int, Iterable[tuple[int, int, bytes]]], kinds: Kinds, out: str, num_shards: int
) -> tuple[int, int, dict[str, int]]:
    shard, found = pieces
    tables = [_unpack(data) for *_, data in sorted(found, key=lambda piece: piece[:2])]
    events, repairs = finish(tables, kinds.schema(out), binary(kinds.spans))
    name = f"events-{shard:05d}-of-{num_shards:05d}.parquet"
    sink = pa.BufferOutputStream()
    pq.write_table(events, sink, compression="zstd")
    _write(out, name, sink.getvalue().to_pybytes())
    return shard, events.num_rows, repairs


def _manifest(counts: list[tuple[int, int, dict[str, int]]], out: str, num_shards: int) -> None:
    repairs: dict[str, int] = {}
    for *_, found in counts:
        for repair, count in found.items():
            repairs[repair] = repairs.get(repair, 0) + count
    rows = {shard: count for shard, count, _ in counts}
    manifest = {
        "rows": [rows.get(shard, 0) for shard in range(num_shards)],
        "repairs": repairs,
    }
    _write(out, MANIFEST, json.dumps(manifest).encode())


def _write(out: str, name: str, data: bytes) -> None:
    """Whole or not at all; of workers that write the same, one wins."""
    temporary = FileSystems.join(out, f".{name}.{time.time_ns()}")
    with FileSystems.create(temporary) as file:
        file.write(data)
    FileSystems.rename([temporary], [FileSystems.join(out, name)])


def _join(all_kinds: Iterable[Kinds]) -> Kinds:
    joined = Kinds()
    for kinds in all_kinds:
        joined.join(kinds)
    return joined


def _pack(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _unpack(data: bytes) -> pa.Table:
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()
