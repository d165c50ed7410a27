"""Opens a data set by name (config.data.source) and brings it into the event log's columns."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import negflax
from negflax.config import Config
from negflax.data.cells import DataError
from negflax.data.event_files import read_events, read_table, write_table
from negflax.data.rules import asked

# 2022-04-29 00:00 in UTC+8, the zone of KuaiRand's dates: the last two days of its part 1 validate.
KUAIRAND_VALID_FROM_MS = 1_651_161_600_000
KUAIRAND_SINGLE_COLUMN_TAB = 1


@dataclasses.dataclass(frozen=True, eq=False)
class RawData:
    """What a source yields.

    Attributes:
      events: event log (schema.py), possibly unsorted.
      items: item table, or None.
      name: of the source, for messages.
    """

    events: pa.Table
    items: pa.Table | None
    name: str


def open_source(config: Config, workdir: str | os.PathLike[str]) -> RawData:
    """Opens config.data.source.

    Args:
      config: its sections data and, for `synthetic`, world.
      workdir: holds the synthetic data set where config.data.cache_dir is empty, and what is
        prepared from config.data.manual_dir where config.data.root is.

    Raises:
      DataError: files are missing (the message says which variable to set) or cannot be read.
    """
    opened = _builder if "/" in config.data.source else _SOURCES[config.data.source]
    events, items = opened(config, Path(workdir))
    return RawData(events, items, config.data.source)


def _synthetic(config: Config, workdir: Path) -> tuple[pa.Table, pa.Table]:
    folder = Path(config.data.cache_dir) if config.data.cache_dir else workdir / "data"
    paths = folder / "events.parquet", folder / "items.parquet"
    made_by = json.dumps(
        {"version": negflax.__version__, **dataclasses.asdict(config.world)}, sort_keys=True
    ).encode()
    if not all(path.exists() and _made_by(path) == made_by for path in paths):
        from negflax import world

        for path, table in zip(paths, world.generate(config.world), strict=True):
            metadata = {**(table.schema.metadata or {}), b"negflax.world": made_by}
            write_table(table.replace_schema_metadata(metadata), path)
    return read_table(paths[0]), read_table(paths[1])


def _made_by(path: Path) -> bytes | None:
    try:
        return (pq.read_schema(path).metadata or {}).get(b"negflax.world")
    except (pa.ArrowInvalid, OSError):
        return None  # not a whole file: it is generated anew


def _kuairand_mini(config: Config, workdir: Path) -> tuple[pa.Table, pa.Table]:
    folder = _data_set(config, "kuairand-pure-mini")
    log = read_table(folder / "interactions.parquet")
    part, unknown = log["part"], pa.scalar(None, pa.bool_())
    long_view = pc.equal(log["long_view"], 1)
    late = pc.fill_null(pc.greater_equal(log["timestamp_ms"], KUAIRAND_VALID_FROM_MS), False)
    split = pc.if_else(pc.and_(pc.equal(part, 1), late), "valid", "train")
    feed = pc.fill_null(pc.equal(log["tab"], KUAIRAND_SINGLE_COLUMN_TAB), False)
    duration = log["duration_ms"]
    events = pa.table(
        {
            "user_id": log["user_id"],
            "item_id": log["item_id"],
            "pos": log["pos"],
            "timestamp_ms": log["timestamp_ms"],
            "split": pc.if_else(pc.equal(part, 2), "test", split),
            "long_view": long_view,
            "like": pc.equal(log["is_like"], 1),
            "dislike": pc.equal(log["is_hate"], 1),
            # A short play is a skip in the single-column feed only; elsewhere it is no choice.
            "skip": pc.if_else(feed, pc.equal(log["is_short_play"], 1), unknown),
            # Part 0 has no skips, only the absence of a long view, which says much less.
            "weak_negative": pc.and_(pc.equal(part, 0), pc.invert(long_view)),
            "dwell_ms": log["play_time_ms"],
            "duration_ms": pc.if_else(pc.greater(duration, 0), duration, None),
            "surface": log["tab"],
        }
    )
    videos = read_table(folder / "items.parquet")
    tags = videos["tags"].combine_chunks()
    first_tag = pc.if_else(
        pc.greater(pc.list_value_length(tags), 0), pc.list_slice(tags, 0, 1), None
    )
    items = {
        "item_id": videos["item_id"],
        "creator_id": videos["author_id"],
        "cluster_ids": first_tag,
    }
    return events, pa.table(items)


def _movielens_100k(config: Config, workdir: Path) -> tuple[pa.Table, pa.Table]:
    folder = _data_set(config, "ml-100k")
    log = read_table(folder / "interactions.parquet")
    events = pa.table(
        {
            "user_id": log["user_id"],
            "item_id": log["item_id"],
            "pos": log["pos"],
            "timestamp_ms": pc.multiply(log["timestamp"], 1000),
            "rating": log["rating"],
            "dislike": pc.equal(log["is_dislike"], 1),
        }
    )
    return events, _movies(folder)


def _ml1m_sequences(config: Config, workdir: Path) -> tuple[pa.Table, pa.Table]:
    folder = _data_set(config, "ml-1m-sequences")
    log = read_table(folder / "interactions.parquet").select(["user_id", "item_id", "pos"])
    everything = pa.array(np.ones(log.num_rows, bool))  # it has no feedback but the interaction
    return log.append_column("interaction", everything), _movies(folder)


def _movies(folder: Path) -> pa.Table:
    movies = read_table(folder / "items.parquet").select(["item_id", "genres", "title"])
    return movies.rename_columns(["item_id", "cluster_ids", "title"])


def _event_log(config: Config, workdir: Path) -> tuple[pa.Table, pa.Table | None]:
    data, rules = config.data, asked(config.labels)
    return read_events(data.path, data.items_path, rules, data.columns, data.item_columns)


def _builder(config: Config, workdir: Path) -> tuple[pa.Table, pa.Table | None]:
    return import_prepared(config).open_prepared(config.data.source, builder_dir(config, workdir))


def import_prepared(config: Config) -> ModuleType:
    """negflax.data.builders.prepared, which needs the extra `tfds`.

    Raises:
      DataError: it is not installed.
    """
    try:
        return importlib.import_module("negflax.data.builders.prepared")
    except ModuleNotFoundError as error:
        raise DataError(
            f"{config.data.source}: {error.name} is not installed: pip install 'negflax[tfds]'"
        ) from error


def builder_dir(config: Config, workdir: str | os.PathLike[str]) -> str | Path:
    """Where a builder's data set lies; it is prepared there if config.data.manual_dir is given."""
    prepared, name = import_prepared(config), config.data.source
    root = config.data.root or os.environ.get("NEGFLAX_DATA_DIR", "")
    if root and prepared.is_prepared(name, root):
        return root
    folder = config.data.root or Path(workdir) / "data"
    if config.data.manual_dir:
        prepared.prepare(name, folder, config.data.manual_dir)
    return folder


def _data_set(config: Config, folder: str) -> Path:
    root = config.data.root or os.environ.get("NEGFLAX_DATA_DIR", "")
    if not root:
        raise DataError(
            f"{folder}: where is it? Set the environment variable NEGFLAX_DATA_DIR, or "
            f"config.data.root, to the folder that holds {folder}/"
        )
    path = Path(root) / folder
    if not path.is_dir():
        variable = "config.data.root" if config.data.root else "NEGFLAX_DATA_DIR"
        raise DataError(
            f"{path} is not a folder: set {variable} to the folder that holds {folder}/"
        )
    return path


_SOURCES: dict[str, Callable[[Config, Path], tuple[pa.Table, pa.Table | None]]] = {
    "synthetic": _synthetic,
    "kuairand_mini": _kuairand_mini,
    "movielens_100k": _movielens_100k,
    "ml1m_sequences": _ml1m_sequences,
    "event_log": _event_log,
}
