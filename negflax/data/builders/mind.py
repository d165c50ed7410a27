"""MIND: news impressions, clicked or not (Wu et al., ACL 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from negflax.data.builders.base import LogBuilder, Part, variants
from negflax.data.builders.text import TEXT, read_text
from negflax.data.cells import DataError, first

_SPLITS = {"train": "train", "dev": "valid"}
_EVENTS = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp_ms", pa.int64()),
        ("split", pa.string()),
        ("click", pa.bool_()),
    ]
)
_ITEMS = pa.schema(
    [("item_id", pa.string()), ("title", pa.string()), ("cluster_ids", pa.list_(pa.string()))]
)
_BEHAVIORS = ("impression", "user", "time", "history", "shown")
_NEWS = ("id", "category", "subcategory", "title", "abstract", "url", "entities", "more_entities")


def _folders(size: str, name: str) -> tuple[str, ...]:
    return tuple(f"MIND{size}_{part}/{name}" for part in _SPLITS)


class Mind(LogBuilder):
    """Splits: `train` and `valid` (dev); every news shown is an event, `click` says how it went.

    The clicks before the log (column 4 of behaviors.tsv) have no time and are left out. Category
    and subcategory are the clusters.
    """

    DESCRIPTION = (
        "News shown by Microsoft News and clicked or not. An example is a block of events."
    )
    CITATION = """@inproceedings{wu2020mind,
  title={{MIND}: A Large-scale Dataset for News Recommendation},
  author={Wu, Fangzhao and Qiao, Ying and Chen, Jiun-Hung and Wu, Chuhan and Qi, Tao and
    Lian, Jianxun and Liu, Danyang and Xie, Xing and Gao, Jianfeng and Wu, Winnie and Zhou, Ming},
  booktitle={ACL}, year={2020}}"""
    LICENSE = "Microsoft Research License Terms"
    HOMEPAGE = "https://msnews.github.io/"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "MINDsmall_train, MINDsmall_dev, MINDlarge_train and MINDlarge_dev are at "
        "https://msnews.github.io/; unpack the two of a size into folders of these names in "
        "manual_dir."
    )
    BUILDER_CONFIGS: ClassVar[list] = variants(
        ("small", "large"),
        lambda size: _folders(size, "behaviors.tsv"),
        lambda size: None,
        lambda size: _folders(size, "news.tsv"),
    )

    def schema(self) -> pa.Schema:
        """See the base class."""
        return _ITEMS if self.builder_config.items else _EVENTS

    def tables(self, files: dict[str, Path]) -> dict[str, Iterator[Part]]:
        """See the base class."""
        if self.builder_config.items:
            return {"items": _news(list(files.values()))}
        return {
            split: _events(path, split)
            for split, path in zip(_SPLITS.values(), files.values(), strict=True)
        }


def _events(path: Path, split: str) -> Iterator[Part]:
    columns = dict.fromkeys(("user", "time", "shown"), TEXT)
    start = 0
    for log in read_text(path, columns, "\t", _BEHAVIORS, quotes=False):
        log = log.combine_chunks()
        time = pc.strptime(log["time"], "%m/%d/%Y %I:%M:%S %p", "ms", error_is_null=True)
        row = first(pc.is_null(time))
        if row is not None:
            raise DataError(
                f"{path}: column `time`, row {start + row}: {log['time'][row]} is not a time such "
                "as 11/11/2019 9:05:58 AM"
            )
        shown = pc.split_pattern(log["shown"], " ").combine_chunks()
        parent, each = pc.list_parent_indices(shown), pc.list_flatten(shown)
        row = first(pc.invert(pc.match_substring_regex(each, r"^.+-[01]$")))
        if row is not None:
            raise DataError(
                f"{path}: column `shown`, row {start + parent[row].as_py()}: {each[row]} is not an "
                "item with -1 (clicked) or -0: the test part has none of these, and the end of the "
                "file may be cut off"
            )
        events = pa.table(
            {
                "user_id": log["user"].take(parent),
                "item_id": pc.utf8_slice_codeunits(each, 0, -2),
                "timestamp_ms": time.cast(pa.int64()).take(parent),
                "split": pa.array(np.full(len(each), split)),
                "click": pc.ends_with(each, "1"),
            }
        )
        start += log.num_rows
        yield path, events


def _news(paths: list[Path]) -> Iterator[Part]:
    seen = pa.array([], pa.string())  # the two parts share most of their news
    for path in paths:
        columns = dict.fromkeys(_NEWS[:4], TEXT)
        for news in read_text(path, columns, "\t", _NEWS, quotes=False):
            news = news.filter(pc.invert(pc.is_in(news["id"], value_set=seen))).combine_chunks()
            seen = pa.concat_arrays([seen, *news["id"].chunks])
            pairs = pc.binary_join_element_wise(
                news["category"], news["subcategory"], "\t", null_handling="skip"
            )
            yield (
                path,
                pa.table(
                    {
                        "item_id": news["id"],
                        "title": news["title"],
                        "cluster_ids": pc.split_pattern(pairs, "\t"),
                    }
                ),
            )
