"""Takes files out of a .zip, .tar or .tar.gz that somebody else made, without trusting it.

Nothing is unpacked but the wanted files, each under its own name directly in the target folder, so
no path of the archive is ever opened for writing. An archive that tries is refused all the same: a
path that is absolute or climbs out, a link or device, more bytes than it may hold.
"""

from __future__ import annotations

import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from negflax.data.cells import DataError
from negflax.files import NOT_WRITABLE, replacing

MAX_BYTES = 256 * 2**30  # unpacked: the largest of the data sets has some 50 GiB
MAX_RATIO = 200  # unpacked over packed; CSV files of numbers shrink to a fifth or a tenth
SLACK_BYTES = 64 * 2**20  # so that tiny archives of constant columns pass
MAX_MEMBERS = 100_000
_COPY_BYTES = 2**20
_OF_BROKEN_ARCHIVES = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)
_OF_BROKEN_ARCHIVES += (struct.error, ValueError, LookupError, OverflowError, RuntimeError)


def extract(archive: Path, wanted: Collection[str], target: Path) -> dict[str, Path]:
    """Writes the wanted files of an archive into a folder.

    Args:
      archive: a .zip, .tar, .tar.gz or .tgz.
      wanted: paths as in the archive, or their last parts: `ml-1m/ratings.dat`.
      target: folder that exists; a file is called by the last part of its wanted path.

    Returns:
      {wanted path: file}.

    Raises:
      DataError: the archive is hostile, cut short or of another kind, or lacks a wanted file.
    """
    budget = _Budget(archive)
    found: dict[str, Path] = {}
    try:
        for name, size, stream in _members(archive, budget):
            parts = PurePosixPath(name).parts
            matches = [w for w in wanted if parts[-len(PurePosixPath(w).parts) :] == _parts(w)]
            for match in matches:
                if match in found:
                    raise DataError(f"{archive}: `{match}` is in it twice: use an original copy")
                path = target / PurePosixPath(match).name
                _copy(stream, path, size, budget)
                found[match] = path
    except NotImplementedError as error:  # of zipfile: a method of compression, such as 97
        raise DataError(
            f"{archive} is packed in a way that Python cannot unpack ({error}): unpack it, and "
            "pack it again as a .zip (deflate) or .tar.gz, or leave the files unpacked there"
        ) from error
    except OSError as error:
        if error.errno in NOT_WRITABLE:  # of the folder that is written to
            raise
        raise _unreadable(archive, error) from error
    except DataError:
        raise
    except _OF_BROKEN_ARCHIVES as error:
        raise _unreadable(archive, error) from error
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(f"{archive}: {missing[0]} is not in it: is this the right archive?")
    return found


def _unreadable(archive: Path, error: Exception) -> DataError:
    return DataError(f"{archive} cannot be read, it may be cut short: {error}; download it again")


class _Budget:
    """Bytes and members that an archive may still unpack."""

    def __init__(self, archive: Path):
        self.archive = archive
        packed = archive.stat().st_size
        self.allowed = min(MAX_BYTES, MAX_RATIO * packed + SLACK_BYTES)
        self.declared = self.written = self.members = 0

    def declare(self, name: str, size: int) -> None:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in name or "\0" in name:
            raise self.refusal(f"{name!r} leads out of its folder")
        self.members += 1
        self.declared += size
        if self.members > MAX_MEMBERS:
            raise self.refusal(f"it has more than {MAX_MEMBERS} files")
        if size < 0 or self.declared > self.allowed:
            raise self.refusal(f"it unpacks to more than {self.allowed} bytes")

    def write(self, count: int) -> None:
        self.written += count
        if self.written > self.allowed:
            raise self.refusal(f"it unpacks to more than {self.allowed} bytes")

    def refusal(self, reason: str) -> DataError:
        return DataError(f"{self.archive} is refused: {reason}; take the original archive")


def _members(archive: Path, budget: _Budget) -> Iterator[tuple[str, int, IO[bytes]]]:
    """(path, size, bytes) of every regular file, in the archive's order; all names are checked."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as file:
            for entry in file.infolist():
                budget.declare(entry.orig_filename, entry.file_size)
                kind = stat.S_IFMT(entry.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise budget.refusal(f"{entry.filename!r} is a link or device")
                if entry.flag_bits & 1:
                    raise budget.refusal(f"{entry.filename!r} is encrypted")
                if not entry.is_dir():
                    with file.open(entry) as stream:
                        yield entry.filename, entry.file_size, stream
    elif archive.name.endswith((".tar", ".tar.gz", ".tgz")):
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                budget.declare(member.name, member.size)
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise budget.refusal(f"{member.name!r} is a link or device")
                yield member.name, member.size, tar.extractfile(member)
    else:
        raise DataError(f"{archive}: a .zip, .tar or .tar.gz is expected")


def _copy(stream: IO[bytes], path: Path, size: int, budget: _Budget) -> None:
    with replacing(path) as temporary, open(temporary, "wb") as out:
        left = size
        while left:
            chunk = stream.read(min(_COPY_BYTES, left))
            if not chunk:
                raise EOFError(f"{path.name} ends {left} bytes early")
            budget.write(len(chunk))
            out.write(chunk)
            left -= len(chunk)
        if stream.read(1):
            raise budget.refusal(f"{path.name!r} is longer than it says")


def _parts(path: str) -> tuple[str, ...]:
    return PurePosixPath(path).parts
