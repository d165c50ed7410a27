"""Files that appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

# What a user can mend where a file cannot be written: room, a read-only disk, rights.
NOT_WRITABLE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EFBIG,
    errno.ENAMETOOLONG,
)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a new file beside `path` to write; at the end of the block it takes the place of it.

    The bytes reach the disk before the name does, and a block that fails, by Ctrl-C too, leaves
    what was there before and nothing else. The name cannot be guessed, and no link is followed.

    Args:
      path: of the file; its folder is made if needed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    sync(path.parent)


def cannot_write(error: BaseException) -> str:
    """One line on a file that cannot be written, and what to do; empty for any other error."""
    if not isinstance(error, OSError):
        return ""
    short = "requested and" in str(error) and "written" in str(error)  # NumPy's, without a number
    if error.errno not in NOT_WRITABLE and not short:
        return ""
    place = error.filename or "a file"
    reason = "No space left on device" if short else error.strerror or str(error)
    return f"{place} cannot be written ({reason}): make room, or name a folder you may write to"


def temporary_beside(path: Path) -> Path:
    """A hidden name beside `path` that cannot be guessed, of at most 255 bytes."""
    start = os.fsencode(path.name)[:200].decode(errors="ignore")
    return path.with_name(f".{start}.{secrets.token_hex(8)}.tmp")


def replace_link(path: Path, target: Path) -> None:
    """Lets `path` be a symbolic link to `target`, in place of what link it was before."""
    temporary = temporary_beside(path)
    try:
        temporary.symlink_to(target)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync(path: str | os.PathLike[str]) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes text atomically, making the folder if needed."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes JSON atomically; NaN is an error, as JSON has none."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """The value with null for NaN and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an .npz without pickle atomically, making the folder if needed."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
