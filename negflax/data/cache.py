"""Sequences as memory-mapped files, built once for each (data, rules, split) and shared by all.

A cache is a folder <data.cache_dir>/sequences-<fingerprint> with a .npy file for each field of
`Sequences`, the catalogue, and manifest.json with the size of each. It is built in a folder beside
its place and renamed, under a lock of the operating system, which ends with the process that holds
it: processes that need the same cache wait for the first one, and what a killed one left is removed
by the next.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import logging

from negflax.config import Config
from negflax.data.catalogue import Catalogue
from negflax.data.cells import DataError
from negflax.data.column_files import ColumnFiles
from negflax.data.inputs import Input, digest, open_input
from negflax.data.sequences import Sequences
from negflax.files import sync
from negflax.processes import first_alone, meet

VERSION = 10  # of what is stored; raise it when the same events and rules give other columns
MANIFEST = "manifest.json"
CATALOGUE = "catalogue.npz"
ARRAYS = [f.name for f in dataclasses.fields(Sequences) if f.name not in ("catalogue", "report")]
# Where the data lies, and how labels are batched, change nothing of what is stored.
NOT_IN_DATA = ("cache_dir", "root", "path", "items_path", "manual_dir")
NOT_IN_LABELS = ("horizon",)


def open_sequences(
    config: Config,
    workdir: str | os.PathLike[str],
    catalogue: Catalogue | None = None,
    known: Catalogue | None = None,
) -> Sequences:
    """Opens the sequences of config.data and config.labels, from the cache or by building it.

    Event logs and data sets of builders are prepared out of core.

    Args:
      config: its sections data, labels and, for `synthetic`, world.
      workdir: holds the cache where config.data.cache_dir is empty, in data/.
      catalogue: a vocabulary to use instead of the log's own, such as a checkpoint's.
      known: a vocabulary that grows by the log's own (negflax/data/vocabulary_growth.py).

    Returns:
      Sequences whose arrays are read-only and read from the files when they are touched.

    Raises:
      DataError: unusable data, or a cache that cannot be written.
      ConfigError: a rule or moment that cannot be used.
    """
    # On a shared disk the others find what the first one made; on disks of their own they make it.
    with first_alone():
        found = _open_or_build(config, workdir, catalogue, known)
    meet()
    return found


def _open_or_build(
    config: Config,
    workdir: str | os.PathLike[str],
    catalogue: Catalogue | None,
    known: Catalogue | None,
) -> Sequences:
    source = open_input(config, workdir)
    place = Path(config.data.cache_dir) if config.data.cache_dir else Path(workdir) / "data"
    key = _fingerprint(config, source.identity())
    if catalogue is not None:
        found = _open(place / f"sequences-{key}")
        if found is not None and _same(found.catalogue, catalogue):
            return found
        key = digest(key, catalogue.item_ids)
    if known is not None:
        related = known.creator_V, known.clusters_VC
        key = digest(key, "grown", str(known.reserved_rows), known.item_ids, *related)
    folder = place / f"sequences-{key}"
    found = _open(folder)
    if found is not None:
        logging.info("event sequences: %s", folder)
        return found
    with _writing(folder):
        place.mkdir(parents=True, exist_ok=True)
        with _locked(place / f".{folder.name}.lock"):
            found = _open(folder)  # another process may have built it meanwhile
            if found is None:
                _build(folder, source, config, catalogue, known)
                found = _open(folder)
    if found is None:
        raise DataError(f"{folder} was changed by another program: remove it and start again")
    return found


def _build(
    folder: Path,
    source: Input,
    config: Config,
    catalogue: Catalogue | None,
    known: Catalogue | None,
) -> None:
    """Builds in a folder beside, then renames; the lock is held."""
    stem = f".{folder.name}.building-"
    for left in folder.parent.glob(f"{stem}*"):  # by a process that was killed: the lock was free
        shutil.rmtree(left)
    temporary = folder.with_name(f"{stem}{secrets.token_hex(8)}")
    logging.info("building event sequences: %s", folder)
    try:
        scratch = temporary / "scratch"
        scratch.mkdir(parents=True)
        with ColumnFiles(temporary) as columns:
            fields = source.prepare(scratch, config, catalogue, columns.append, known)
            columns.append({name: fields[name] for name in ("user_ids", "offsets_U1")})
        shutil.rmtree(scratch)
        fields["catalogue"].save(temporary / CATALOGUE)
        sizes = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
        manifest = {"version": VERSION, "bytes": sizes, "report": fields["report"]}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1))
        for path in temporary.iterdir():
            sync(path)  # the data reaches the disk before the name does
        if folder.exists():  # damaged
            shutil.rmtree(folder)
        os.rename(temporary, folder)
        sync(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _open(folder: Path) -> Sequences | None:
    """The cache; None where there is none, or none that is whole."""
    if not folder.is_dir():
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        for name, size in manifest["bytes"].items():
            if (folder / name).stat().st_size != size:
                raise ValueError(f"{name} is cut short")
        stored = [name for name in ARRAYS if f"{name}.npy" in manifest["bytes"]]
        arrays = {
            name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in stored
        }
        catalogue = Catalogue.load(folder / CATALOGUE)
    except (ValueError, KeyError, OSError, EOFError) as error:
        logging.warning("%s is damaged (%s): building it again", folder, error)
        return None
    return Sequences(catalogue=catalogue, report=manifest["report"], **arrays)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info("another process is building the same sequences: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({error}): free space or grant write permission there, "
            "or name another folder in config.data.cache_dir"
        ) from error


def _fingerprint(config: Config, identity: str) -> str:
    data, labels = dataclasses.asdict(config.data), dataclasses.asdict(config.labels)
    rules = {
        "data": {k: v for k, v in data.items() if k not in NOT_IN_DATA},
        "labels": {k: v for k, v in labels.items() if k not in NOT_IN_LABELS},
    }
    return digest(str(VERSION), identity, json.dumps(rules, sort_keys=True))


def _same(one: Catalogue, other: Catalogue) -> bool:
    """Whether the rows mean the same items, creators and clusters, with as many reserved."""
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in (
            "item_ids",
            "creator_V",
            "clusters_VC",
            "vector_VW",
            "reserved_rows",
            "bucket_rows",
        )
    )
