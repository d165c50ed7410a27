"""KuaiRand: short-video feedback, with a log of randomly exposed videos (Gao et al., CIKM 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from negflax.data.builders.base import LogBuilder, Part, variants
from negflax.data.builders.originals import Archive
from negflax.data.builders.text import INT, TEXT, read_text

_MD5 = {
    "pure": "0820331067a3784d9691136f772b35a7",
    "1k": "6b0b9c8222d67fcd4c676218edca3f1f",
    "27k": "3e3c799a24e2d23a4d2c757fbf9adf59",
}
_FOLDER = {"pure": "KuaiRand-Pure", "1k": "KuaiRand-1K", "27k": "KuaiRand-27K"}
_PERIODS = ("4_08_to_4_21", "4_22_to_5_08")
SINGLE_COLUMN_TAB = 1
SHORT_PLAY_MS = 3_000

_LOG = dict.fromkeys(
    "user_id video_id time_ms is_click is_like is_follow is_comment is_forward is_hate long_view "
    "play_time_ms duration_ms profile_stay_time comment_stay_time is_profile_enter is_rand "
    "tab".split(),
    INT,
)
_SIGNALS = {
    "long_view": "long_view",
    "like": "is_like",
    "dislike": "is_hate",
    "click": "is_click",
    "follow": "is_follow",
    "comment": "is_comment",
    "forward": "is_forward",
    "profile_enter": "is_profile_enter",
    "random_exposure": "is_rand",
}
_EVENTS = pa.schema(
    [
        *[(name, pa.int64()) for name in ("user_id", "item_id", "timestamp_ms")],
        *[(name, pa.bool_()) for name in (*_SIGNALS, "skip")],
        *[(name, pa.int64()) for name in ("dwell_ms", "duration_ms", "surface")],
        *[(name, pa.int64()) for name in ("profile_stay_ms", "comment_stay_ms")],
    ]
)
_ITEMS = pa.schema(
    [
        ("item_id", pa.int64()),
        ("creator_id", pa.int64()),
        ("cluster_ids", pa.list_(pa.string())),
        ("duration_ms", pa.int64()),
    ]
)


def _archive(size: str) -> Archive:
    name = f"{_FOLDER[size]}.tar.gz"
    return Archive(name, f"https://zenodo.org/records/10439422/files/{name}", _MD5[size])


def _standard(size: str) -> tuple[str, ...]:
    parts = ("_part1", "_part2") if size == "27k" else ("",)
    return tuple(f"log_standard_{period}_{size}{part}.csv" for period in _PERIODS for part in parts)


def _logs(size: str) -> tuple[str, ...]:
    names = (*_standard(size), f"log_random_4_22_to_5_08_{size}.csv")
    return tuple(f"{_FOLDER[size]}/data/{name}" for name in names)


def _videos(size: str) -> tuple[str, ...]:
    return (f"{_FOLDER[size]}/data/video_features_basic_{size}.csv",)


class Kuairand(LogBuilder):
    """Splits: `standard`, the platform's own lists, and `random`, randomly exposed videos.

    A play shorter than min(3 s, duration) is a skip where the video fills the screen (tab 1); in
    the other tabs it is unknown, as the user may not have chosen it. video_features_statistic is
    never read: its counts are of the whole month, so they leak the test period.
    """

    DESCRIPTION = (
        "Short-video feedback of Kuaishou, 8 April to 8 May 2022: clicks, long views, likes, hates "
        "and dwell times, and a log of randomly exposed videos. An example is a block of events."
    )
    CITATION = """@inproceedings{gao2022kuairand,
  title={{KuaiRand}: An Unbiased Sequential Recommendation Dataset with Randomly Exposed Videos},
  author={Gao, Chongming and Li, Shijun and Zhang, Yuan and Chen, Jiawei and Li, Biao and
    Lei, Wenqiang and Jiang, Peng and He, Xiangnan},
  booktitle={CIKM}, year={2022}, doi={10.1145/3511808.3557624}}"""
    LICENSE = "CC BY-SA 4.0"
    HOMEPAGE = "https://zenodo.org/records/10439422"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "KuaiRand-Pure.tar.gz, KuaiRand-1K.tar.gz and KuaiRand-27K.tar.gz are at "
        "https://zenodo.org/records/10439422; put the archive, or its CSV files, into manual_dir."
    )
    TRAINING = ("standard",)
    TESTED = "fixtures, and real rows written back into the original format"
    BUILDER_CONFIGS: ClassVar[list] = variants(_FOLDER, _logs, _archive, _videos)

    def schema(self) -> pa.Schema:
        """See the base class."""
        return _ITEMS if self.builder_config.items else _EVENTS

    def tables(self, files: dict[str, Path]) -> dict[str, Iterator[Part]]:
        """See the base class."""
        if self.builder_config.items:
            return {"items": _items(*files.values())}
        *standard, random = files.values()
        return {"standard": _events(standard), "random": _events([random])}


def _events(paths: list[Path]) -> Iterator[Part]:
    for path in paths:
        for log in read_text(path, _LOG):
            duration = pc.if_else(pc.greater(log["duration_ms"], 0), log["duration_ms"], None)
            short = pc.less(
                log["play_time_ms"], pc.min_element_wise(duration, SHORT_PLAY_MS, skip_nulls=True)
            )
            fills_screen = pc.equal(log["tab"], SINGLE_COLUMN_TAB)
            events = pa.table(
                {
                    "user_id": log["user_id"],
                    "item_id": log["video_id"],
                    "timestamp_ms": log["time_ms"],
                    **{name: log[column] for name, column in _SIGNALS.items()},
                    "skip": pc.if_else(pc.fill_null(fills_screen, False), short, None),
                    "dwell_ms": log["play_time_ms"],
                    "duration_ms": duration,
                    "surface": log["tab"],
                    "profile_stay_ms": log["profile_stay_time"],
                    "comment_stay_ms": log["comment_stay_time"],
                }
            )
            yield path, events


def _items(path: Path) -> Iterator[Part]:
    columns = {"video_id": INT, "author_id": INT, "video_duration": pa.float64(), "tag": TEXT}
    for videos in read_text(path, columns):
        duration = videos["video_duration"]
        items = pa.table(
            {
                "item_id": videos["video_id"],
                "creator_id": videos["author_id"],
                "cluster_ids": pc.split_pattern(videos["tag"], ","),
                "duration_ms": pc.if_else(pc.greater(duration, 0), duration, None),
            }
        )
        yield path, items
