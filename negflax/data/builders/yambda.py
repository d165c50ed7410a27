"""Yambda: music listens, likes and dislikes of a streaming service (arXiv 2505.22238)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from negflax.data.builders.base import LogBuilder, Part, variants
from negflax.data.builders.parquet import read_parquet

_KEY = {"uid": pa.int64(), "timestamp": pa.int64(), "item_id": pa.int64(), "is_organic": pa.int64()}
_LISTEN = _KEY | {"played_ratio_pct": pa.float64(), "track_length_seconds": pa.float64()}
_KINDS = ("listens", "likes", "dislikes", "unlikes", "undislikes")
_EVENTS = pa.schema(
    [
        *[(name, pa.int64()) for name in ("user_id", "item_id", "timestamp_ms")],
        *[(name, pa.bool_()) for name in ("like", "dislike", "organic")],
        *[(name, pa.int64()) for name in ("dwell_ms", "duration_ms")],
        ("played_ratio_pct", pa.float64()),
    ]
)
_ITEMS = pa.schema([("item_id", pa.int64()), ("creator_id", pa.int64())])


def _files(size: str, multi: str = "") -> tuple[str, ...]:
    names = ("multi_event",) if multi else _KINDS
    return tuple(f"flat/{size}/{name}.parquet" for name in names)


class Yambda(LogBuilder):
    """One split, `events`: listens, likes and dislikes, each a row; `…_multi` reads multi_event.

    A like or dislike that its user takes back at any later time is left out, as is the taking back.
    Of a track with several artists the first of the mapping is the creator. Times are seconds since
    an unpublished moment, rounded to 5.
    """

    DESCRIPTION = (
        "Music listens with the share played, likes and dislikes, and whether the user or the "
        "recommender chose the track. An example is a block of events."
    )
    CITATION = """@article{ploshkin2025yambda,
  title={{Yambda-5B}: A Large-Scale Multi-modal Dataset for Ranking And Retrieval},
  author={Ploshkin, A. and others},
  journal={arXiv:2505.22238}, year={2025}}"""
    LICENSE = "Apache 2.0"
    HOMEPAGE = "https://huggingface.co/datasets/yandex/yambda"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "flat/{50m,500m,5b}/*.parquet and artist_mapping.parquet are at "
        "https://huggingface.co/datasets/yandex/yambda; put the folder of one size, with the "
        "mapping in it or beside it, into manual_dir."
    )
    BUILDER_CONFIGS: ClassVar[list] = variants(
        ("50m", "500m", "5b", "50m_multi", "500m_multi", "5b_multi"),
        lambda size: _files(*size.split("_")),
        lambda size: None,
        lambda size: ("artist_mapping.parquet",),
    )

    def schema(self) -> pa.Schema:
        """See the base class."""
        return _ITEMS if self.builder_config.items else _EVENTS

    def tables(self, files: dict[str, Path]) -> dict[str, Iterator[Part]]:
        """See the base class."""
        if self.builder_config.items:
            return {"items": _artists(*files.values())}
        return {"events": self._events({path.stem: path for path in files.values()})}

    def _events(self, paths: dict[str, Path]) -> Iterator[Part]:
        path = paths.get("listens", paths.get("multi_event"))
        for log in _rows(paths, "listens", _LISTEN):
            played = pc.multiply(log["played_ratio_pct"], log["track_length_seconds"])
            events = _columns(log) | {
                "like": pa.nulls(log.num_rows, pa.bool_()),
                "dislike": pa.nulls(log.num_rows, pa.bool_()),
                "dwell_ms": pc.round(pc.multiply(played, 10)),  # % of seconds
                "duration_ms": pc.multiply(log["track_length_seconds"], 1000),
                "played_ratio_pct": log["played_ratio_pct"],
            }
            yield path, pa.table(events)
        for signal in ("like", "dislike"):
            log = pa.concat_tables(_rows(paths, f"{signal}s", _KEY))
            stands = _stands(log, pa.concat_tables(_rows(paths, f"un{signal}s", _KEY)))
            self.left_out[f"{signal}s taken back"] += int(np.sum(~stands))
            log = log.filter(pa.array(stands))
            other = "dislike" if signal == "like" else "like"
            events = _columns(log) | {
                signal: pa.array(np.ones(log.num_rows, bool)),
                other: pa.nulls(log.num_rows, pa.bool_()),
                **{
                    name: pa.nulls(log.num_rows, pa.int64()) for name in ("dwell_ms", "duration_ms")
                },
                "played_ratio_pct": pa.nulls(log.num_rows, pa.float64()),
            }
            yield paths.get(f"{signal}s", path), pa.table(events)


def _rows(paths: dict[str, Path], kind: str, columns: dict[str, pa.DataType]) -> Iterator[pa.Table]:
    """The rows of one kind, from its own file or out of multi_event.parquet."""
    if kind in paths:
        yield from read_parquet(paths[kind], columns)
        return
    for table in read_parquet(paths["multi_event"], columns | {"event_type": pa.string()}):
        yield table.filter(pc.equal(table["event_type"], kind.removesuffix("s")))


def _columns(log: pa.Table) -> dict[str, pa.ChunkedArray]:
    return {
        "user_id": log["uid"],
        "item_id": log["item_id"],
        "timestamp_ms": pc.multiply(log["timestamp"], 1000),
        "organic": log["is_organic"],
    }


def _stands(given: pa.Table, undone: pa.Table) -> np.ndarray:
    """Whether no taking back of the same user and item comes at or after each event."""
    both = pa.concat_tables([given, undone])
    user, item, time = (both[name].to_numpy() for name in ("uid", "item_id", "timestamp"))
    is_undo = np.arange(len(user)) >= given.num_rows
    order = np.lexsort((is_undo, time, item, user))[::-1]  # the newest event of a pair first
    new_pair = np.ones(len(order), bool)
    new_pair[1:] = (np.diff(user[order]) != 0) | (np.diff(item[order]) != 0)
    undos = np.cumsum(is_undo[order])
    before_pair = (undos - is_undo[order])[new_pair][np.cumsum(new_pair) - 1]
    stands = np.empty(len(order), bool)
    stands[order] = undos == before_pair
    return stands[: given.num_rows]


def _artists(path: Path) -> Iterator[Part]:
    mapping = pa.concat_tables(read_parquet(path, {"item_id": pa.int64(), "artist_id": pa.int64()}))
    item = mapping["item_id"].to_numpy()
    first = np.sort(np.unique(item, return_index=True)[1])
    yield path, mapping.take(pa.array(first)).rename_columns(["item_id", "creator_id"])
