"""Runs on object stores (gs://, s3://, any protocol of fsspec), by a local copy of their folder.

Atomic writes, caches and locks need renames and memory maps, which object stores lack. So a program
works in a local copy, which is downloaded at its start, uploaded every `EVERY_S` and once more at
its end, also after an error or a preemption.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import logging

from negflax.config import ConfigError
from negflax.mirror import Mirror
from negflax.processes import from_first, is_first, several

EVERY_S = 10.0
CACHE_DIR = "NEGFLAX_CACHE_DIR"  # the variable that names the folder of local copies
TRAINER = ".trainer.json"  # the object that says who trains there


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the address of an object store, as gs://bucket/run."""
    return "://" in str(path)


def local_copy(url: str) -> Path:
    """Returns the local folder of a remote run, in $NEGFLAX_CACHE_DIR or ~/.cache/negflax/runs."""
    cache = os.environ.get(CACHE_DIR) or Path.home() / ".cache" / "negflax" / "runs"
    scheme, _, rest = url.partition("://")
    return Path(cache).joinpath(scheme, *(part for part in rest.split("/") if part.strip(".")))


@contextlib.contextmanager
def mirrored(workdir: str | os.PathLike[str], *, trains: bool = False) -> Iterator[Path]:
    """Gives the local folder of a run: the folder itself, or the copy of a remote one.

    Of several processes the first downloads and uploads; they share the folder of local copies.

    Args:
      workdir: a folder, or an address such as gs://bucket/run.
      trains: whether this is the run's trainer, of which there can be only one.

    Raises:
      ConfigError: an unknown protocol, a missing package, another trainer, or several processes
        that have not been given a common folder for local copies.
      OSError: the store cannot be read, or at the end not be written; the local copy stays.
    """
    if not is_remote(workdir):
        yield Path(workdir)
        return
    url = str(workdir)
    if several() and not os.environ.get(CACHE_DIR):
        raise ConfigError(
            f"--workdir={url}: several processes need a local copy that all of them see: name a "
            f"folder on a shared disk with --cache_dir or {CACHE_DIR}"
        )
    mirror = Mirror(url, local_copy(url))
    from_first(lambda: _open(mirror, url, trains))
    if not is_first():
        yield mirror.folder
        return
    with _uploading(mirror, url, trains):
        yield mirror.folder


def downloaded(workdir: str | os.PathLike[str]) -> Path:
    """Returns the folder of a run to read from: itself, or a copy of a remote one as it is now."""
    if not is_remote(workdir):
        return Path(workdir)
    mirror = Mirror(str(workdir), local_copy(str(workdir)))
    from_first(lambda: _open(mirror, str(workdir), trains=False))
    return mirror.folder


@contextlib.contextmanager
def refreshed(workdir: str) -> Iterator[Path]:
    """Gives a local copy that follows a remote run while another machine trains it."""
    if not is_remote(workdir):
        yield Path(workdir)
        return
    mirror = Mirror(workdir, local_copy(workdir))
    from_first(lambda: _open(mirror, workdir, trains=False))
    with _repeating(mirror.download if is_first() else lambda: None, f"cannot read {workdir} yet"):
        yield mirror.folder


@contextlib.contextmanager
def written(path: str) -> Iterator[str]:
    """Gives the path of a new file to write: itself, or a local one that is uploaded at the end."""
    if not is_remote(path):
        yield path
        return
    place = local_copy(path)
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    yield str(place)
    if place.exists():
        Mirror(path, place).put()


def _open(mirror: Mirror, url: str, trains: bool) -> None:
    mirror.folder.mkdir(parents=True, exist_ok=True)
    if trains:
        _claim(mirror, url)
    if mirror.download():
        logging.info("downloaded %s to %s", url, mirror.folder)


_ME = {"owner": secrets.token_hex(8), "host": socket.gethostname(), "process": os.getpid()}


def _claim(mirror: Mirror, url: str) -> None:
    """Says in the store that this process trains there; a trainer that no longer beats is dead."""
    found = mirror.read(TRAINER)
    end = time.monotonic() + 3 * EVERY_S
    while found and found["owner"] != _ME["owner"] and not _dead_here(found):
        if time.monotonic() > end:
            break
        time.sleep(EVERY_S / 10)
        if (now := mirror.read(TRAINER)) != found and now:
            raise ConfigError(
                f"--workdir={url}: process {found['process']} on {found['host']} trains there; "
                "stop it, or name another folder"
            )
        found = now
    mirror.write(TRAINER, _ME | {"beat": 0})


def _dead_here(trainer: dict) -> bool:
    if trainer["host"] != _ME["host"]:
        return False
    try:
        os.kill(trainer["process"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return trainer["process"] == _ME["process"]  # of an earlier program with the same number


@contextlib.contextmanager
def _uploading(mirror: Mirror, url: str, trains: bool) -> Iterator[None]:
    """Uploads within the block and at its end; with `trains` keeps the claim."""
    lost, beats = threading.Event(), itertools.count(1)

    def beat() -> None:
        if lost.is_set():
            return
        if (mirror.read(TRAINER) or _ME)["owner"] == _ME["owner"]:
            mirror.write(TRAINER, _ME | {"beat": next(beats)})
            return
        lost.set()
        os.kill(os.getpid(), signal.SIGTERM)  # leaves as if preempted

    def upload() -> None:
        if not lost.is_set():
            mirror.upload()

    try:
        with contextlib.ExitStack() as stack:
            if trains:
                stack.enter_context(_repeating(beat, f"cannot write to {url} yet"))
            stack.enter_context(_repeating(upload, f"cannot upload to {url} yet"))
            yield
    finally:
        upload()
        if lost.is_set():
            raise ConfigError(
                f"--workdir={url}: another trainer took over while this one did not respond; its "
                f"last steps are in {mirror.folder}"
            )
        if trains:
            mirror.delete(TRAINER)


@contextlib.contextmanager
def _repeating(action: Callable[[], object], failed: str) -> Iterator[None]:
    """Repeats an action every `EVERY_S` within the block, whatever becomes of it."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(EVERY_S):
            try:
                action()
            except Exception as error:  # of a network: the next one may succeed
                logging.warning("%s: %s", failed, error)

    thread = threading.Thread(target=repeat, name="object store", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
