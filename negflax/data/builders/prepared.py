"""Prepares a data set by name, and reads what was prepared as event log and item table."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import tensorflow_datasets as tfds

from negflax.data.builders import BUILDERS, LogBuilder
from negflax.data.builders.base import ITEMS
from negflax.data.builders.blocks import decode
from negflax.data.cells import DataError


def prepare(
    name: str,
    data_dir: str | os.PathLike[str],
    manual_dir: str = "",
    register_checksums: bool = False,
) -> list[Any]:
    """Prepares a data set's events and, where it has one, its item table; once per version.

    Args:
      name: builder and config, such as `kuairand/pure`.
      data_dir: folder of all prepared data sets.
      manual_dir: folder with the original files; empty downloads them, where that is allowed.
      register_checksums: keep the checksums of the originals with the builders, to be enforced.

    Returns:
      The tfds.core.DatasetInfo of the events, and of the items if any.

    Raises:
      DataError: no such data set, its files are missing, wrong or cut short, or there is no room.
    """
    _parse(name)
    try:
        return _prepare(name, Path(data_dir), manual_dir, register_checksums)
    except OSError as error:
        raise DataError(
            f"{name} cannot be prepared in {data_dir}: {error}; free space or grant write "
            "permission there, or name another folder"
        ) from error


def _prepare(name: str, data_dir: Path, manual_dir: str, register_checksums: bool) -> list[Any]:
    cls, config = _parse(name)
    data_dir.mkdir(parents=True, exist_ok=True)
    # Processes that want the same wait for the first; a lock ends with the process that holds it.
    with open(data_dir / f".{cls.name}-{config}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _newest(data_dir / name) != data_dir / name / str(cls.VERSION):
            with tempfile.TemporaryDirectory(dir=data_dir, prefix=".preparing-") as scratch:
                configs = cls.configs_for(config, manual_dir, Path(scratch))
                for chosen in reversed(configs):  # the events last: with them, all is there
                    cls(config=chosen, data_dir=os.fspath(data_dir)).download_and_prepare(
                        file_format="array_record",
                        download_config=tfds.download.DownloadConfig(
                            manual_dir=manual_dir or None, register_checksums=register_checksums
                        ),
                    )
    folders = [_newest(data_dir / (name + suffix)) for suffix in ("", ITEMS)]
    return [tfds.builder_from_directory(folder).info for folder in folders if folder]


def is_prepared(name: str, data_dir: str | os.PathLike[str]) -> bool:
    """Whether the events of a data set lie in data_dir, in any version."""
    return _newest(Path(data_dir, name)) is not None


def open_prepared(
    name: str, data_dir: str | os.PathLike[str], splits: Sequence[str] = ()
) -> tuple[pa.Table, pa.Table | None]:
    """Reads a prepared data set into memory; `blocks` reads it piece by piece.

    Args:
      name: builder and config, such as `kuairand/pure`.
      data_dir: as in `prepare`.
      splits: as tensorflow-datasets names them; empty: those that train.

    Returns:
      (event log, item table or None).

    Raises:
      DataError: it is not prepared, or has no such split.
    """
    folder = prepared_folder(name, data_dir)
    items = folder.with_name(folder.name + ITEMS)
    return (
        pa.concat_tables(blocks(folder, splits)),
        pa.concat_tables(blocks(items)) if _newest(items) else None,
    )


def prepared_folder(name: str, data_dir: str | os.PathLike[str]) -> Path:
    """<data_dir>/<builder>/<config>, with a prepared version in it.

    Raises:
      DataError: no such data set, or it is not prepared.
    """
    _parse(name)
    folder = Path(data_dir, name)
    if _newest(folder) is None:
        raise DataError(
            f"{folder} is not prepared: run `python -m launch.prepare --data_set={name} "
            f"--data_dir={data_dir}`, with --manual_dir=… if you have the original files"
        )
    return folder


def open_blocks(
    name: str, data_dir: str | os.PathLike[str]
) -> tuple[list[Path], int, Iterator[pa.Table], pa.Table | None]:
    """As `open_prepared`, with the events piece by piece.

    Returns:
      (files that hold it, how many events, blocks of events, item table or None).
    """
    folder = prepared_folder(name, data_dir)
    items = folder.with_name(folder.name + ITEMS)
    versions = [version for version in (_newest(folder), _newest(items)) if version]
    files = [path for version in versions for path in sorted(version.iterdir())]
    info = tfds.builder_from_directory(versions[0]).info
    num = sum(info.metadata["rows"][split] for split in info.metadata["training"])
    table = pa.concat_tables(blocks(items)) if len(versions) > 1 else None
    return files, num, blocks(folder), table


def blocks(folder: Path, splits: Sequence[str] = ()) -> Iterator[pa.Table]:
    """Tables of at most blocks.ROWS rows, in the order of the original files.

    Args:
      folder: <data_dir>/<builder>/<config>.
      splits: as tensorflow-datasets names them; empty: those that train.

    Raises:
      DataError: a split is not there, or a file is cut short.
    """
    builder = tfds.builder_from_directory(_newest(folder))
    for split in splits or builder.info.metadata["training"]:
        if split not in builder.info.splits:
            known = ", ".join(builder.info.splits)
            raise DataError(f"{folder}: no split `{split}`; it has {known}")
        try:
            for example in builder.as_data_source(split):
                yield decode(example)
        except (RuntimeError, ValueError, OSError) as error:
            raise DataError(
                f"{folder} cannot be read, it may be cut short: {error}; prepare it again"
            ) from error


def _parse(name: str) -> tuple[type[LogBuilder], str]:
    builder, _, config = name.partition("/")
    if builder not in BUILDERS or not config:
        known = ", ".join(f"{key}/…" for key in BUILDERS)
        raise DataError(f"{name} is not a data set; choose from {known} (docs/data_sets.md)")
    return BUILDERS[builder], config


def _newest(folder: Path) -> Path | None:
    """The newest version of a prepared config; one appears whole or not at all."""
    versions = [
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if tfds.core.Version.is_valid(path.name) and (path / "dataset_info.json").is_file()
    ]
    return max(versions, key=lambda path: tfds.core.Version(path.name), default=None)
