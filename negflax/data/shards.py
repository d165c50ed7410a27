"""The contract of logs that were sharded elsewhere, and its check (docs/data_past_one_machine.md).

A folder of `events-00000-of-00064.parquet` files with the columns of an event log, each of whole
users with their events side by side in order of time, and a `manifest.json` written last.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from negflax.data.cells import DataError

MANIFEST = "manifest.json"
NAME = re.compile(r"events-(\d{5})-of-(\d{5})\.parquet")
NEEDED = ("user_id", "item_id", "timestamp_ms")


def check_shards(folder: str | Path) -> dict[str, Any]:
    """Holds a folder of shards to the contract; one shard is in memory at a time.

    Returns:
      events, users, shards, and `largest_shard`, the largest over the mean number of events.

    Raises:
      DataError: what is broken, with file and row.
    """
    folder = Path(folder)
    files, rows = _files(folder), _manifest(folder)
    if len(files) != len(rows):
        raise DataError(f"{folder / MANIFEST}: rows of {len(rows)} shards, but {len(files)} files")
    schema, everyone = pq.read_schema(files[0]), []
    for file, expected in zip(files, rows, strict=True):
        if not pq.read_schema(file).equals(schema):
            raise DataError(f"{file}: not the columns and types of {files[0].name}")
        table = pq.read_table(file, columns=["user_id", "timestamp_ms"])
        if table.num_rows != expected:
            raise DataError(
                f"{file}: {table.num_rows} events, where {MANIFEST} has {expected}: it was cut, or "
                "written after the manifest"
            )
        everyone.append(_users(file, table))
    joined = pa.chunked_array(everyone) if everyone else pa.chunked_array([], schema.field(0).type)
    counts = pc.value_counts(joined)
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        user = twice[0].as_py()
        where = [
            file.name for file, users in zip(files, everyone, strict=True) if user in _set(users)
        ]
        raise DataError(
            f"{folder}: user {user!r} is in {' and '.join(where)}: hash by the user only"
        )
    events = sum(rows)
    return {
        "events": events,
        "users": len(joined),
        "shards": len(files),
        "largest_shard": max(rows) * len(rows) / max(1, events),
    }


def _set(users: pa.Array) -> set[Any]:
    return set(users.to_pylist())


def _files(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.glob("*.parquet"))
    if not files:
        raise DataError(f"{folder}: no events-00000-of-….parquet")
    for i, file in enumerate(files):
        found = NAME.fullmatch(file.name)
        if not found or (int(found[1]), int(found[2])) != (i, len(files)):
            raise DataError(
                f"{file}: expected events-{i:05d}-of-{len(files):05d}.parquet: a shard is missing "
                "or has another name"
            )
    schema = pq.read_schema(files[0])
    if missing := [name for name in NEEDED if name not in schema.names]:
        raise DataError(f"{files[0]}: no column {', '.join(missing)}")
    return files


def _manifest(folder: Path) -> list[int]:
    path = folder / MANIFEST
    if not path.exists():
        raise DataError(f"{path} does not exist: it is written last, so the shards are incomplete")
    try:
        rows = json.loads(path.read_text())["rows"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f'{path}: expected {{"rows": [events of each shard]}}') from error
    if not isinstance(rows, list) or not all(isinstance(n, int) and n >= 0 for n in rows):
        raise DataError(f'{path}: expected {{"rows": [events of each shard]}}')
    return rows


def _users(file: Path, table: pa.Table) -> pa.Array:
    """The users of a shard, each once."""
    user, time = (table.column(name).combine_chunks() for name in ("user_id", "timestamp_ms"))
    for name, column in (("user_id", user), ("timestamp_ms", time)):
        if column.null_count:
            row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise DataError(f"{file}: column {name}, row {row}: null")
    if not len(user):
        return user
    new = pc.not_equal(user.slice(1), user.slice(0, len(user) - 1))
    new = new.to_numpy(zero_copy_only=False)
    earlier = np.diff(time.cast(pa.int64()).to_numpy()) < 0
    if len(wrong := np.flatnonzero(earlier & ~new)):
        raise DataError(
            f"{file}: column timestamp_ms, row {wrong[0] + 1}: earlier than the row before"
        )
    firsts = user.take(pa.array(np.append(0, np.flatnonzero(new) + 1)))
    if len(pc.unique(firsts)) < len(firsts):
        counts = pc.value_counts(firsts)
        again = counts.field("values").filter(pc.greater(counts.field("counts"), 1))[0]
        raise DataError(f"{file}: the events of user {again.as_py()!r} are not contiguous: sort")
    return firsts
