"""Snapshots of the checkpoints of a run that is still training: the trainer may delete them.

A snapshot is a run folder of its own, with one checkpoint. It is made of hard links, which cost
neither time nor space while the trainer keeps the checkpoint; of copies where links are refused.
The trainer's folder is only read.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import logging

from negflax.train.restore import CATALOGUE

RUN_FILES = ("config.json", CATALOGUE)


class Snapshots:
    """<folder>/STEP for every checkpoint that was seen and is not done with.

    Attributes:
      folder: where they are.
      unreadable: step → what its folder looked like when it could not be read.
    """

    def __init__(self, workdir: Path, folder: Path, clear: bool = True):
        """The run and where its snapshots go; `clear` deletes half ones of a killed process."""
        self._workdir, self.folder = Path(workdir), Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        for half in self.folder.glob(".*") if clear else ():
            shutil.rmtree(half)
        self.unreadable: dict[int, tuple | None] = {}
        self._looks: dict[int, tuple] = {}  # step → what its folder looked like when it was taken

    def take(self, done: set[int]) -> None:
        """Of every checkpoint that is neither here nor done; of unreadable ones if they changed."""
        source = self._workdir / "checkpoints"
        for step in sorted(_numbers(source) - self.steps() - done):
            self._looks[step] = _look(source / str(step))
            if self.unreadable.get(step) == self._looks[step]:
                continue
            if not self._copy(source / str(step)):
                logging.warning("step %d was deleted before it could be read", step)
                self.unreadable.pop(step, None)

    def steps(self) -> set[int]:
        """Those that are here."""
        return _numbers(self.folder)

    def path(self, step: int) -> Path:
        """The run folder of a snapshot."""
        return self.folder / str(step)

    def release(self, step: int) -> None:
        """Deletes one that is done with."""
        shutil.rmtree(self.path(step))

    def refuse(self, step: int) -> None:
        """Deletes one that cannot be read; it is taken again once the checkpoint has changed."""
        self.unreadable[step] = self._looks.get(step)
        self.release(step)

    def _copy(self, checkpoint: Path) -> bool:
        """False if the checkpoint vanishes meanwhile; a snapshot appears whole or not at all."""
        half = self.folder / f".{checkpoint.name}"
        try:
            half.mkdir()
            for name in RUN_FILES:
                _link_or_copy(self._workdir / name, half / name)
            copy_folder(checkpoint, half / "checkpoints" / checkpoint.name)
            os.rename(half, self.path(int(checkpoint.name)))
        except FileNotFoundError:
            shutil.rmtree(half)
            return False
        return True


def copy_folder(source: Path, target: Path) -> None:
    """A folder's twin by hard links, or by copies where those are refused.

    The folders are new ones: a copy of a folder that is read-only could not be deleted.
    """
    target.mkdir(parents=True)
    for path in source.iterdir():
        (copy_folder if path.is_dir() else _link_or_copy)(path, target / path.name)


@contextlib.contextmanager
def meanwhile(action: Callable[[], None], every: float) -> Iterator[None]:
    """Repeats an action in the background, each `every` seconds, while the body runs."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(every):
            action()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _numbers(folder: Path) -> set[int]:
    """Folders named by a step; what Orbax is still writing has another kind of name."""
    if not folder.is_dir():
        return set()
    return {int(path.name) for path in folder.iterdir() if path.name.isdigit()}


def _look(folder: Path) -> tuple:
    """What changes when files are added, written or deleted."""
    with contextlib.suppress(FileNotFoundError):
        stats = [path.stat() for path in sorted(folder.rglob("*"))]
        return tuple((s.st_size, s.st_mtime_ns) for s in stats)
    return ()


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or links to files of others are forbidden
        shutil.copy2(source, target)
