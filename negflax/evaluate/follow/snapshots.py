"""Snapshots of the checkpoints of a running training, which deletes old checkpoints.

A snapshot is a run folder with one checkpoint. It consists of hard links, which take no time, and
no space while the run keeps the checkpoint; or of copies if the file system refuses links. The
folder of the run is only read.
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
    """Snapshots <folder>/STEP of the checkpoints that are not evaluated yet, and of the best one.

    Attributes:
      folder: folder of the snapshots.
      unreadable: step → state of its folder (`_look`) when it could not be read.
    """

    def __init__(self, workdir: Path, folder: Path, clear: bool = True):
        """Takes the run and the folder; `clear` deletes partial snapshots of a killed process."""
        self._workdir, self.folder = Path(workdir), Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        for half in self.folder.glob(".*") if clear else ():
            shutil.rmtree(half)
        self.unreadable: dict[int, tuple | None] = {}
        self._looks: dict[int, tuple] = {}  # step → state of its folder when the snapshot was taken

    def take(self, done: set[int]) -> None:
        """Takes snapshots of all new checkpoints, and of unreadable ones that have changed."""
        source = self._workdir / "checkpoints"
        for step in sorted(_numbers(source) - self.steps() - done):
            self._looks[step] = _look(source / str(step))
            if self.unreadable.get(step) == self._looks[step]:
                continue
            if not self._copy(source / str(step)):
                logging.warning("step %d was deleted before it could be read", step)
                self.unreadable.pop(step, None)

    def steps(self) -> set[int]:
        """Returns the steps of the snapshots."""
        return _numbers(self.folder)

    def path(self, step: int) -> Path:
        """Returns the run folder of a snapshot."""
        return self.folder / str(step)

    def release(self, step: int) -> None:
        """Deletes a snapshot that is no longer needed."""
        shutil.rmtree(self.path(step))

    def refuse(self, step: int) -> None:
        """Deletes a snapshot that cannot be read; it is taken again if the checkpoint changes."""
        self.unreadable[step] = self._looks.get(step)
        self.release(step)

    def _copy(self, checkpoint: Path) -> bool:
        """Takes a snapshot atomically; returns False if the checkpoint was deleted meanwhile."""
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
    """Copies a folder by hard links, or by copies if the file system refuses links.

    Folders are created anew, without their permissions: a read-only copy could not be deleted.
    """
    target.mkdir(parents=True)
    for path in source.iterdir():
        (copy_folder if path.is_dir() else _link_or_copy)(path, target / path.name)


@contextlib.contextmanager
def meanwhile(action: Callable[[], None], every: float) -> Iterator[None]:
    """Repeats an action in the background, every `every` seconds, while the body runs."""
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
    """Returns the steps of the folders named by a number; Orbax names unfinished ones otherwise."""
    if not folder.is_dir():
        return set()
    return {int(path.name) for path in folder.iterdir() if path.name.isdigit()}


def _look(folder: Path) -> tuple:
    """Returns sizes and times of the files, which change if files are added, written or deleted."""
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
