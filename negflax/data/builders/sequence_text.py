"""Text files of the sequential recommendation literature: SASRec's and S3Rec's. Order is all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from negflax.data.builders.base import LogBuilder, LogConfig, Part
from negflax.data.builders.text import INT, TEXT, id_type, read_text
from negflax.data.cells import DataError, first


class Sasrec(LogBuilder):
    """One split, `events`: lines of `user item`, a user's oldest first; no times, no feedback."""

    DESCRIPTION = "Interactions in order, as SASRec reads them. An example is a block of events."
    CITATION = """@inproceedings{kang2018sasrec, title={Self-Attentive Sequential Recommendation},
  author={Kang, Wang-Cheng and McAuley, Julian}, booktitle={ICDM}, year={2018}}"""
    LICENSE = "That of the data set itself"
    HOMEPAGE = "https://github.com/kang205/SASRec"
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Put <name>.txt into manual_dir."
    _NAMES = ("user_id", "item_id")

    @classmethod
    def configs_for(cls, name: str, manual_dir: str, scratch: Path) -> list[LogConfig]:
        """See the base class."""
        path = Path(cls.folder(manual_dir), f"{name}.txt")
        columns = cls._ids(path) | {"pos": INT, "interaction": pa.bool_()}
        return [LogConfig(name=name, files=(path.name,), columns=pa.schema(columns.items()))]

    @classmethod
    def _ids(cls, path: Path) -> dict[str, pa.DataType]:
        return {n: id_type(path, n, delimiter=" ", names=cls._NAMES) for n in cls._NAMES}

    def tables(self, files: dict[str, Path]) -> dict[str, Iterator[Part]]:
        """See the base class."""
        (path,) = files.values()
        return {"events": _numbered(self._pairs(path), path)}

    def _pairs(self, path: Path) -> Iterator[pa.Table]:
        columns = {name: self.schema().field(name).type for name in self._NAMES}
        return read_text(path, columns, " ", self._NAMES, quotes=False)


class S3rec(Sasrec):
    """One split, `events`: lines of `user item item …`, oldest first; no times, no feedback."""

    DESCRIPTION = "Interactions in order, as S3Rec reads them. An example is a block of events."
    CITATION = """@inproceedings{zhou2020s3rec, title={{S3-Rec}: Self-Supervised Learning for
  Sequential Recommendation with Mutual Information Maximization}, author={Zhou, Kun and others},
  booktitle={CIKM}, year={2020}}"""
    HOMEPAGE = "https://github.com/RUCAIBox/CIKM2020-S3Rec"

    @classmethod
    def _ids(cls, path: Path) -> dict[str, pa.DataType]:
        text = False
        for words, _ in _lines(path):
            text = text or not pc.all(pc.match_substring_regex(words, r"^-?\d{1,18}$")).as_py()
        return dict.fromkeys(cls._NAMES, TEXT if text else INT)

    def _pairs(self, path: Path) -> Iterator[pa.Table]:
        kind = self.schema().field("item_id").type
        for words, line in _lines(path):
            start = np.append(True, np.diff(line) != 0)  # the first word of a line is the user
            user = words.filter(pa.array(start)).take(pa.array(line[~start]))
            yield pa.table(
                {"user_id": user.cast(kind), "item_id": words.filter(pa.array(~start)).cast(kind)}
            )


def _lines(path: Path) -> Iterator[tuple[pa.Array, np.ndarray]]:
    """(words, number of each one's line within the block)."""
    row = 0
    for block in read_text(path, {"line": TEXT}, "\x01", ("line",), quotes=False):
        words = pc.split_pattern(pc.utf8_trim_whitespace(block["line"]), " ").combine_chunks()
        short = first(pc.less(pc.fill_null(pc.list_value_length(words), 0), 2))
        if short is not None:
            raise DataError(f"{path}: row {row + short}: no user with an item: the end may be cut")
        row += block.num_rows
        yield pc.list_flatten(words), pc.list_parent_indices(words).to_numpy()


def _numbered(tables: Iterator[pa.Table], path: Path) -> Iterator[Part]:
    start = 0
    for table in tables:
        place = pa.array(np.arange(start, start + table.num_rows))
        start += table.num_rows
        table = table.append_column("pos", place)
        yield path, table.append_column("interaction", pa.array(np.ones(len(place), bool)))
