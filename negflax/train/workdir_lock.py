"""One trainer a folder: <workdir>/trainer.lock says who trains there, and beats while it does.

A lock whose owner is dead is taken over. On the owner's own machine its process tells; from another
one the beat does, watched for `LIMIT_S` by this machine's monotonic clock: no two clocks are
compared, so that neither jumps nor skew matter. The file is opened anew for each look, since
network file systems promise no more than that. An owner that slept through all this finds another
owner's lock before its next save, and stops without writing.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import logging

from negflax.processes import from_first, is_first
from negflax.train.run_config import CheckpointError

LOCK = "trainer.lock"
BEAT_S = 5.0
LIMIT_S = 60.0  # without a beat, after which an owner on another machine counts as dead
_NOT_WRITABLE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ESTALE,
)
_held: dict[Path, _Lock | None] = {}  # None: the first process holds it for this one


@contextlib.contextmanager
def locked(workdir: str | Path) -> Iterator[None]:
    """Around all that trains into a folder; may be entered again within itself.

    Raises:
      CheckpointError: another trainer is at work there, or the folder cannot be written to.
    """
    folder = Path(workdir).resolve()
    if folder in _held:
        yield
        return
    with _told(folder):
        from_first(lambda: _acquire(folder))
        if not is_first():
            _held[folder] = None
        try:
            yield
        finally:
            if lock := _held.pop(folder):
                lock.release()


def check(workdir: str | Path) -> None:
    """Before a write: whether the folder is still there, and still this trainer's.

    Raises:
      CheckpointError: it has vanished, or another trainer took it over.
    """
    folder = Path(workdir).resolve()
    if lock := _held.get(folder):
        lock.check()


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Errors of writing, in words."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOENT and not folder.is_dir():
            raise CheckpointError(_vanished(folder)) from error
        if error.errno not in _NOT_WRITABLE:
            raise
        raise CheckpointError(
            f"{error.filename or folder} cannot be written: {error.strerror}. Fix this (free "
            "space, permission to write), then start again: the run continues from its newest "
            "checkpoint"
        ) from error


def _vanished(folder: Path) -> str:
    return f"{folder} has vanished: deleted, or its disk is no longer mounted"


def _acquire(folder: Path) -> None:
    new = not folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    _held[folder] = _Lock(folder / LOCK, new)


class _Lock:
    def __init__(self, path: Path, new: bool):
        """Waits until it is known whether an owner lives; a new folder is deleted if left empty.

        Raises:
          CheckpointError: it does.
        """
        self._path, self._new, self._beat, self._ended = path, new, 0, threading.Event()
        self._me = _me()
        while not self._create():
            owner = _read(path)
            if owner is not None and not owner.get("token") and _changes(path, owner, BEAT_S):
                continue  # it was being written
            if owner and (_lives(owner) if _here(owner) else _changes(path, owner, LIMIT_S)):
                raise CheckpointError(
                    f"{path.parent}: {_name(owner)} is training there. Wait for it, stop it, or "
                    f"use another --workdir. (If it is not running, delete {path})"
                )
            if owner is not None:
                self._remove(owner)
        threading.Thread(target=self._beats, name="negflax-lock", daemon=True).start()

    def check(self) -> None:
        owner = _read(self._path)
        if owner is None and not self._path.parent.is_dir():
            raise CheckpointError(_vanished(self._path.parent))
        if owner and owner.get("token") not in (None, self._me["token"]):
            raise CheckpointError(
                f"{self._path.parent} was taken over by {_name(owner)}, as this trainer had not "
                "renewed its lock; it stops without writing anything else"
            )

    def release(self) -> None:
        self._ended.set()
        owner = _read(self._path)
        if owner and owner.get("token") == self._me["token"]:
            self._path.unlink(missing_ok=True)
            if self._new:
                with contextlib.suppress(OSError):  # not empty
                    self._path.parent.rmdir()

    def _text(self) -> bytes:
        return json.dumps(self._me | {"beat": f"{self._beat:012d}"}).encode()

    def _create(self) -> bool:
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        with open(handle, "wb") as file:
            file.write(self._text())
        return True

    def _remove(self, owner: dict[str, Any]) -> None:
        """A dead owner's lock; of several that try, one succeeds."""
        aside = self._path.with_name(f".{LOCK}.{self._me['token']}")
        try:
            self._path.rename(aside)
        except FileNotFoundError:
            return
        if (moved := _read(aside)) != owner:  # another one took over meanwhile: put it back
            with contextlib.suppress(FileExistsError):
                os.link(aside, self._path)
        else:
            logging.warning(
                "%s has ended without releasing its lock, which is taken over", _name(moved)
            )
        aside.unlink()

    def _beats(self) -> None:
        while not self._ended.wait(BEAT_S):
            self._beat += 1
            with contextlib.suppress(OSError):  # a full disk must not end it; `check` tells
                owner = _read(self._path)
                if owner is None and self._path.parent.is_dir():
                    self._create()
                elif owner and owner.get("token") == self._me["token"]:
                    with open(self._path, "r+b") as file:
                        file.write(self._text())
                        os.fsync(file.fileno())


def _me() -> dict[str, Any]:
    return {
        "token": secrets.token_hex(8),
        "user": _user(),
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a user database
        return str(os.getuid())


def _machine() -> str:
    """The same for two processes that see each other's ids, else not: hosts, boots, containers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process began, in ticks since the boot; None: there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _here(owner: dict[str, Any]) -> bool:
    return bool(_machine()) and owner.get("machine") == _machine()


def _lives(owner: dict[str, Any]) -> bool:
    """Whether the very process is there; its number may have gone to another one."""
    return _started(owner["pid"]) == owner["started"] is not None


def _changes(path: Path, before: dict[str, Any] | None, limit: float) -> bool:
    """Whether the file becomes another one within so many seconds."""
    if limit > BEAT_S:
        logging.info(
            "waiting up to %.0f s to see whether %s is still running", limit, _name(before or {})
        )
    began = time.monotonic()
    while time.monotonic() - began < limit:
        if _read(path) != before:
            return True
        time.sleep(min(1.0, limit / 20))
    return False


def _read(path: Path) -> dict[str, Any] | None:
    """The lock; {} if it is none, None if there is none."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, OSError):
        return {}
    return found if isinstance(found, dict) else {}


def _name(owner: dict[str, Any]) -> str:
    return f"{owner.get('user', '?')}@{owner.get('host', '?')} (process {owner.get('pid', '?')})"
