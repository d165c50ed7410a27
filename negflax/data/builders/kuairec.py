"""KuaiRec: short-video plays, and an almost fully observed matrix (Gao et al., CIKM 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from negflax.data.builders.base import LogBuilder, Part, variants
from negflax.data.builders.originals import Archive
from negflax.data.builders.text import FLOAT, INT, TEXT, read_text

_LOG = {
    "user_id": INT,
    "video_id": INT,
    "play_duration": INT,
    "video_duration": INT,
    "timestamp": FLOAT,
    "watch_ratio": FLOAT,
}
_EVENTS = pa.schema(
    [
        *[(name, pa.int64()) for name in ("user_id", "item_id", "timestamp_ms")],
        *[(name, pa.int64()) for name in ("dwell_ms", "duration_ms")],
        ("watch_ratio", pa.float64()),
    ]
)
_ITEMS = pa.schema([("item_id", pa.int64()), ("cluster_ids", pa.list_(pa.string()))])


class Kuairec(LogBuilder):
    """Splits: `big`, the platform's log, and `small`, where nearly all users saw nearly all videos.

    The small matrix is of users and videos of the big one, so it does not train. Its rows without
    a time are left out and counted in the metadata.
    """

    DESCRIPTION = (
        "Short-video plays of Kuaishou with watch ratios: a large sparse log, and a matrix of "
        "1,411 users and 3,327 videos that is almost full. An example is a block of events."
    )
    CITATION = """@inproceedings{gao2022kuairec,
  title={{KuaiRec}: A Fully-observed Dataset and Insights for Evaluating Recommender Systems},
  author={Gao, Chongming and Li, Shijun and Lei, Wenqiang and Chen, Jiawei and Li, Biao and
    Jiang, Peng and He, Xiangnan and Mao, Jiaxin and Chua, Tat-Seng},
  booktitle={CIKM}, year={2022}, doi={10.1145/3511808.3557220}}"""
    LICENSE = "As on the record at https://zenodo.org/records/18164998"
    HOMEPAGE = "https://zenodo.org/records/18164998"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "KuaiRec.zip is at https://zenodo.org/records/18164998; put it, or big_matrix.csv, "
        "small_matrix.csv and item_categories.csv, into manual_dir."
    )
    TRAINING = ("big",)
    BUILDER_CONFIGS: ClassVar[list] = variants(
        ("full",),
        lambda size: ("data/big_matrix.csv", "data/small_matrix.csv"),
        lambda size: Archive("KuaiRec.zip"),
        lambda size: ("data/item_categories.csv",),
    )

    def schema(self) -> pa.Schema:
        """See the base class."""
        return _ITEMS if self.builder_config.items else _EVENTS

    def tables(self, files: dict[str, Path]) -> dict[str, Iterator[Part]]:
        """See the base class."""
        if self.builder_config.items:
            return {"items": _items(*files.values())}
        big, small = files.values()
        return {"big": self._events(big), "small": self._events(small)}

    def _events(self, path: Path) -> Iterator[Part]:
        for log in read_text(path, _LOG):
            timed = log.filter(pc.is_valid(log["timestamp"]))
            self.left_out["rows without a time"] += log.num_rows - timed.num_rows
            duration = timed["video_duration"]
            events = pa.table(
                {
                    "user_id": timed["user_id"],
                    "item_id": timed["video_id"],
                    "timestamp_ms": pc.round(pc.multiply(timed["timestamp"], 1000)),
                    "dwell_ms": timed["play_duration"],
                    "duration_ms": pc.if_else(pc.greater(duration, 0), duration, None),
                    "watch_ratio": timed["watch_ratio"],
                }
            )
            yield path, events


def _items(path: Path) -> Iterator[Part]:
    for videos in read_text(path, {"video_id": INT, "feat": TEXT}):  # feat: "[27, 9]"
        numbers = pc.replace_substring_regex(videos["feat"], r"[\[\]\s]", "")
        numbers = pc.if_else(pc.equal(numbers, ""), pa.scalar(None, pa.string()), numbers)
        yield (
            path,
            pa.table(
                {"item_id": videos["video_id"], "cluster_ids": pc.split_pattern(numbers, ",")}
            ),
        )
