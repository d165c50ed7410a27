"""RecBole's atomic files: tab-separated, with typed headers such as `user_id:token`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from negflax.data.builders.base import ITEMS, LogBuilder, LogConfig, Part
from negflax.data.builders.text import FLOAT, INT, TEXT, id_type, read_header, read_text
from negflax.data.cells import DataError

_MILLISECONDS_FROM = 1e11  # a time in seconds would be of the year 5138
_CLUSTERS = ("class", "genre", "genres", "category", "categories", "tag", "tags")


class Recbole(LogBuilder):
    """One split, `events`, of `<name>.inter`; `<name>.item` describes the items where it is there.

    `timestamp` is in seconds, or in milliseconds where it is 10^11 and more; without it the order
    is that of the file. Other float columns are kept for label rules. Of the item file, the column
    with `title` in its name is the title, and one of class, genre, category or tag, or else the
    first other token_seq, the clusters.
    """

    DESCRIPTION = "A data set in RecBole's atomic files. An example is a block of events."
    CITATION = """@inproceedings{zhao2021recbole,
  title={{RecBole}: Towards a Unified, Comprehensive and Efficient Framework for Recommendation
    Algorithms}, author={Zhao, Wayne Xin and others}, booktitle={CIKM}, year={2021}}"""
    LICENSE = "That of the data set itself"
    HOMEPAGE = "https://recbole.io/docs/user_guide/data/atomic_files.html"
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Put <name>.inter, and <name>.item if any, into manual_dir."

    @classmethod
    def configs_for(cls, name: str, manual_dir: str, scratch: Path) -> list[LogConfig]:
        """See the base class."""
        folder = cls.folder(manual_dir)
        inter, items = Path(folder, f"{name}.inter"), Path(folder, f"{name}.item")
        fields = dict(_fields(inter))
        for needed in ("user_id", "item_id"):
            if needed not in fields:
                raise DataError(f"{inter}: column `{needed}:token` is missing in its header")
        ids = {n: id_type(inter, f"{n}:token", delimiter="\t") for n in ("user_id", "item_id")}
        order = ("timestamp_ms", pa.int64()) if "timestamp" in fields else ("pos", pa.int64())
        numbers = [(n, FLOAT) for n, kind in fields.items() if kind == "float" and n != "timestamp"]
        events = pa.schema([*ids.items(), order, ("interaction", pa.bool_()), *numbers])
        configs = [LogConfig(name=name, files=(inter.name,), columns=events)]
        if items.is_file():
            own = id_type(items, "item_id:token", delimiter="\t")  # an item without events, say
            columns = [("item_id", ids["item_id"] if own == INT else TEXT)]
            columns += [("title", TEXT)] if _title(items) else []
            columns += [("cluster_ids", pa.list_(TEXT))] if _clusters(items) else []
            columns = pa.schema(columns)
            configs.append(
                LogConfig(name=name + ITEMS, files=(items.name,), columns=columns, items=True)
            )
        return configs

    def tables(self, files: dict[str, Path]) -> dict[str, Iterator[Part]]:
        """See the base class."""
        (path,) = files.values()
        if self.builder_config.items:
            return {"items": _items(path, self.schema())}
        return {"events": _events(path, self.schema())}


def _fields(path: Path) -> list[tuple[str, str]]:
    header = read_header(path, "\t")
    for cell in header:
        if cell.rpartition(":")[2] not in ("token", "token_seq", "float", "float_seq"):
            raise DataError(
                f"{path}: column `{cell}` has no type: write it as `{cell}:token`, `:token_seq`, "
                "`:float` or `:float_seq`"
            )
    return [tuple(cell.rsplit(":", 1)) for cell in header]


def _title(path: Path) -> str | None:
    return next((f"{n}:{kind}" for n, kind in _fields(path) if "title" in n), None)


def _clusters(path: Path) -> str | None:
    found = {n: kind for n, kind in _fields(path) if "title" not in n}
    named = [n for n in _CLUSTERS if n in found]
    lists = [n for n, kind in found.items() if kind == "token_seq"]
    return next((f"{n}:{found[n]}" for n in (*named, *lists)), None)


def _events(path: Path, schema: pa.Schema) -> Iterator[Part]:
    kinds = dict(_fields(path))
    wanted = {"user_id", "item_id", "timestamp"} | {n for n in schema.names if n in kinds}
    columns = {
        f"{n}:{kind}": schema.field(n).type if kind == "token" else FLOAT
        for n, kind in kinds.items()
        if n in wanted
    }
    start = 0
    for log in read_text(path, columns, "\t", quotes=False):
        log = log.rename_columns([n for n in kinds if n in wanted])
        if "timestamp" in kinds:
            time = log["timestamp"]
            seconds = pc.less(time, _MILLISECONDS_FROM)
            order = pc.round(pc.if_else(seconds, pc.multiply(time, 1000), time))
            log = log.drop_columns("timestamp").append_column("timestamp_ms", order)
        else:
            place = np.arange(start, start + log.num_rows)
            log = log.append_column("pos", pa.array(place))
        start += log.num_rows
        yield path, log.append_column("interaction", pa.array(np.ones(log.num_rows, bool)))


def _items(path: Path, schema: pa.Schema) -> Iterator[Part]:
    title, clusters = _title(path), _clusters(path)
    columns = {"item_id:token": INT if schema.field("item_id").type == INT else TEXT}
    columns |= {name: TEXT for name in (title, clusters) if name}
    for table in read_text(path, columns, "\t", quotes=False):
        items = {"item_id": table["item_id:token"]}
        if title:
            items["title"] = table[title]
        if clusters:
            items["cluster_ids"] = pc.split_pattern(table[clusters], " ")
        yield path, pa.table(items)
