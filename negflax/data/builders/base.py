"""What every builder has in common: original files → event log blocks → ArrayRecord, versioned.

A builder names its files and yields their events as Arrow tables (schema.py); the rest is here.
The base is not tfds.core.GeneratorBasedBuilder: that one keeps a split in memory and, above 1 GB,
needs TensorFlow. Nor are examples shuffled: the order of events is for the cache to decide.
"""

from __future__ import annotations

import abc
import collections
import dataclasses
import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import tensorflow_datasets as tfds
from absl import logging
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.dataset_builder import FileReaderBuilder
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from negflax.data import cells
from negflax.data.builders.blocks import ROWS, encode, features
from negflax.data.builders.originals import Archive, Originals
from negflax.data.cells import DataError
from negflax.data.columns import flat
from negflax.data.parts import Parts
from negflax.data.schema import conform, validate_items

CHECKSUMS = Path(__file__).with_name("checksums.tsv")  # where tensorflow-datasets keeps them
ITEMS = "_items"  # suffix of the config of a data set's item table
SHARD_BYTES = 256 * 2**20
_LOG_EVERY = 10_000_000  # rows
Part = tuple[Path, pa.Table]


@dataclasses.dataclass(eq=False, kw_only=True)
class LogConfig(tfds.core.BuilderConfig):
    """One variant of a data set: its events, or (`…_items`) its item table.

    Attributes:
      files: that are read, by their paths within the archive.
      archive: that holds them, or None.
      items: whether the rows are items.
      columns: of a user's own files, which are looked into before; None for published formats.
      parts: the events of a user's own log by hash of the user, where they are sorted before.
      left_out: repairs that were made then, counted.
    """

    files: tuple[str, ...] = ()
    archive: Archive | None = None
    items: bool = False
    columns: pa.Schema | None = dataclasses.field(default=None, repr=False)
    parts: Parts | None = dataclasses.field(default=None, repr=False)
    left_out: dict[str, int] = dataclasses.field(default_factory=dict)


class LogBuilder(FileReaderBuilder, skip_registration=True):
    """Base of all builders; a subclass says what its files mean.

    Attributes:
      DESCRIPTION, CITATION, LICENSE, HOMEPAGE: for the metadata.
      MANUAL_DOWNLOAD_INSTRUCTIONS: where the original files are.
      left_out: {reason: rows} that a preparation left out; it goes into the metadata.
      TRAINING: splits that training reads; others, such as randomly exposed items, are opened by
        name. Empty: all.
      TESTED: on what; it goes into the metadata.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    DESCRIPTION: ClassVar[str]
    CITATION: ClassVar[str]
    LICENSE: ClassVar[str]
    HOMEPAGE: ClassVar[str]
    TRAINING: ClassVar[tuple[str, ...]] = ()
    TESTED: ClassVar[str] = "fixtures only"

    def __init__(self, *, file_format: str = "array_record", **options: Any):
        """Builders write ArrayRecord, which tensorflow-datasets reads without TensorFlow."""
        super().__init__(file_format=file_format, **options)

    @classmethod
    def configs_for(cls, name: str, manual_dir: str, scratch: Path) -> list[LogConfig]:
        """The configs of the events of this name and, where there are any, of their items.

        Args:
          name: of the variant.
          manual_dir: builders of a user's own files look into it.
          scratch: empty folder that lasts until the configs are prepared.

        Raises:
          DataError: there is no such variant, or the user's files are unusable.
        """
        del manual_dir, scratch
        if name not in cls.builder_configs:
            names = [key for key in cls.builder_configs if not key.endswith(ITEMS)]
            raise DataError(f"{cls.name}/{name} is not a data set; choose from {', '.join(names)}")
        found = (cls.builder_configs.get(name + suffix) for suffix in ("", ITEMS))
        return [config for config in found if config]

    @classmethod
    def folder(cls, manual_dir: str) -> Path:
        """The folder of a user's own files.

        Raises:
          DataError: there is none.
        """
        path = Path(manual_dir).expanduser()
        if not manual_dir or not path.is_dir():
            raise DataError(
                f"manual_dir `{manual_dir}` is not a folder. {cls.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        return path

    def schema(self) -> pa.Schema:
        """The columns of the events, or of the items, in canonical types."""
        return self.builder_config.columns

    @abc.abstractmethod
    def tables(self, files: dict[str, Path]) -> dict[str, Iterable[Part]]:
        """{split: (file, its next rows)} of the original files, which are named as in the config.

        Tables have the columns of `schema`, in any types that schema.py can bring to canonical
        ones; it does so here, and names the file and the row of what it cannot.
        """

    def shards(self, files: dict[str, Path]) -> dict[str, Iterable[Iterable[Part]]]:
        """{split: parts of each file that is written}; by default, by size."""
        return {split: _by_size(parts) for split, parts in self.tables(files).items()}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            features=features(self.schema()),
            citation=self.CITATION,
            license=self.LICENSE,
            homepage=self.HOMEPAGE,
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _download_and_prepare(self, dl_manager: Any, download_config: Any = None) -> None:
        if self.info.file_format.value != "array_record":
            # The Parquet writer of tensorflow-datasets 4.9.10 loses examples after the first 100.
            raise DataError(f"{self.info.file_format.value}: builders write only array_record")
        config = self.builder_config
        manual = getattr(download_config, "manual_dir", None)
        with tempfile.TemporaryDirectory(dir=self.data_dir) as scratch:
            originals = Originals(
                manual_dir=Path(manual).expanduser() if manual else None,
                download=lambda url: _download(dl_manager, url),
                prefix=f"{self.name}/{config.name}",
                known={url: info.checksum for url, info in self._recorded().items()},
                scratch=Path(scratch),
                instructions=self.MANUAL_DOWNLOAD_INSTRUCTIONS,
            )
            files = originals.get(config.files, config.archive) if config.files else {}
            self._splits = {}
            self.left_out = collections.Counter()
            infos = [self._write(split, shards) for split, shards in self.shards(files).items()]
        self.info.set_splits(tfds.core.SplitDict(infos))
        self.info.metadata.update(
            rows=self._splits,
            training=[split for split in self._splits if split in self.TRAINING] or [*self._splits],
            tested=self.TESTED,
            left_out=dict(self.left_out),
            originals=[dataclasses.asdict(file) for file in originals.checked],
        )
        if dl_manager.register_checksums:
            self._record(originals)

    def _write(self, split: str, shards: Iterable[Iterable[Part]]) -> tfds.core.SplitInfo:
        template = self._get_filename_template(split)
        lengths, paths, read = [], [], collections.Counter()
        for shard in shards:
            paths.append(Path(self.data_dir, f"{split}-{len(paths)}.tmp"))
            writer = ArrayRecordWriter(os.fspath(paths[-1]), "group_size:1")
            lengths.append(0)
            for path, table in shard:
                for start in range(0, table.num_rows, ROWS):
                    block = self._conform(table.slice(start, ROWS), path, read[path])
                    writer.write(self.info.features.serialize_example(encode(block)))
                    lengths[-1] += 1
                    read[path] += block.num_rows
                    if read[path] % _LOG_EVERY < block.num_rows:
                        logging.info("%s: %d rows", path, read[path])
            writer.close()
        rows = sum(read.values())
        if not rows:
            raise DataError(f"{self.name}: split `{split}` has no rows: its files are empty")
        names = [
            template.sharded_filepath(shard_index=i, num_shards=len(paths))
            for i in range(len(paths))
        ]
        for path, name in zip(paths, names, strict=True):
            path.rename(name)
        self._splits[split] = rows
        size = sum(os.path.getsize(name) for name in names)
        return tfds.core.SplitInfo(
            name=split, shard_lengths=lengths, num_bytes=size, filename_template=template
        )

    def _conform(self, table: pa.Table, path: Path, start: int) -> pa.Table:
        name, schema = str(path), self.schema()
        for i, column in enumerate(table.column_names):
            if pa.types.is_boolean(schema.field(column).type):
                signal = cells.signal(flat(table[column]), cells.Place(name, column, start))
                table = table.set_column(i, column, signal)
        items = self.builder_config.items
        table = validate_items(table, name) if items else conform(table, name, start)
        return table.select(schema.names).cast(schema)

    def _recorded(self) -> dict[str, Any]:
        return checksums.load_url_infos(CHECKSUMS) if CHECKSUMS.exists() else {}

    def _record(self, originals: Originals) -> None:
        found = {
            file.file: checksums.UrlInfo(file.bytes, file.sha256, Path(file.file).name)
            for file in originals.checked
        }
        checksums.save_url_infos(CHECKSUMS, found)


def variants(names: Iterable[str], files: Any, archive: Any, items: Any = None) -> list[LogConfig]:
    """Configs of a data set that comes in several sizes, each with its item table.

    Args:
      names: of the sizes.
      files: name → files of the events.
      archive: name → Archive or None.
      items: name → files of the items; None: the data set describes none.
    """
    configs = [LogConfig(name=n, files=files(n), archive=archive(n)) for n in names]
    if items:
        configs += [
            LogConfig(name=n + ITEMS, files=items(n), archive=archive(n), items=True) for n in names
        ]
    return configs


def _download(dl_manager: Any, url: str) -> Path:
    try:
        return Path(os.fspath(dl_manager.download(url)))
    except (OSError, tfds.download.DownloadError, NonMatchingChecksumError) as error:
        raise DataError(
            f"{url} cannot be downloaded: {error}; download it yourself and name its folder as "
            "manual_dir"
        ) from error


def _by_size(parts: Iterable[Part]) -> Iterator[Iterator[Part]]:
    parts = iter(parts)
    for first in parts:
        yield itertools.chain([first], _until(parts, SHARD_BYTES - first[1].nbytes))


def _until(parts: Iterator[Part], left: int) -> Iterator[Part]:
    while left > 0:
        part = next(parts, None)
        if part is None:
            return
        left -= part[1].nbytes
        yield part
