"""Finds the original files of a data set, in the user's folder or downloaded, and checks them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from negflax.data.builders.archives import extract
from negflax.data.cells import DataError


@dataclasses.dataclass(frozen=True)
class Archive:
    """An archive as its authors publish it.

    Attributes:
      name: of the file.
      url: to download it from; empty where a licence has to be accepted first.
      md5: published checksum; empty where none is known.
    """

    name: str
    url: str = ""
    md5: str = ""


@dataclasses.dataclass(frozen=True)
class Checked:
    """What is known of a file that was read: `checksum` is `enforced` or `recorded`."""

    file: str
    bytes: int
    sha256: str
    checksum: str


class Originals:
    """The files that one preparation reads.

    Args:
      manual_dir: folder of the user, with the files or their archive somewhere in it; None: the
        archive is downloaded.
      download: url → file.
      prefix: of the names under which files that have no url are recorded.
      known: {url or prefixed name: sha256} recorded at an earlier preparation, which is enforced.
      scratch: folder for what is unpacked.
      instructions: where to get the files, for the messages.
    """

    def __init__(
        self,
        manual_dir: Path | None,
        download: Callable[[str], Path],
        prefix: str,
        known: Mapping[str, str],
        scratch: Path,
        instructions: str,
    ):
        self._manual_dir = manual_dir
        self._download = download
        self._prefix, self._known = prefix, known
        self._scratch = scratch
        self._instructions = instructions
        self.checked: list[Checked] = []

    def get(self, names: Sequence[str], archive: Archive | None) -> dict[str, Path]:
        """{name: file} of the named files, all of which exist.

        Args:
          names: paths within the archive; in manual_dir the folders may be missing.
          archive: that holds them.

        Raises:
          DataError: a file is missing or stands there twice, a checksum is wrong, or the archive
            is hostile.
        """
        if self._manual_dir is None:
            if archive is None or not archive.url:
                raise DataError(f"{names[0]}: it is not downloaded for you. {self._instructions}")
            return self._unpack(self._download(archive.url), names, archive)
        if not self._manual_dir.is_dir():
            raise DataError(f"manual_dir {self._manual_dir} is not a folder. {self._instructions}")
        found = {name: find(self._manual_dir, name) for name in names}
        missing = [name for name, path in found.items() if path is None]
        if not missing and len(set(found.values())) < len(names):
            raise DataError(
                f"{self._manual_dir}: {', '.join(names)} have the same name, and only one file of "
                f"it is in this folder. {self._instructions}"
            )
        packed = find(self._manual_dir, archive.name) if archive else None
        if missing and packed:
            return self._unpack(packed, names, archive)
        if missing:
            raise DataError(
                f"{self._manual_dir}: {missing[0]} is not in this folder. {self._instructions}"
            )
        for name, path in found.items():
            self._check(path, f"{self._prefix}/{name}", "")
        return found

    def _unpack(self, path: Path, names: Sequence[str], archive: Archive) -> dict[str, Path]:
        self._check(path, archive.url or f"{self._prefix}/{archive.name}", archive.md5)
        return extract(path.resolve(), names, self._scratch)

    def _check(self, path: Path, key: str, md5: str) -> None:
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if md5:
            with open(path, "rb") as file:
                _compare(path, "md5", md5, hashlib.file_digest(file, "md5").hexdigest())
        known = self._known.get(key)
        if known:
            _compare(path, "sha256", known, sha256)
        status = "enforced" if md5 or known else "recorded"
        self.checked.append(Checked(key, path.stat().st_size, sha256, status))


def find(folder: Path, name: str) -> Path | None:
    """A file by its path in the folder, or else by its name in the folder or anywhere below.

    Raises:
      DataError: several files below have the name.
    """
    base = PurePosixPath(name).name
    for path in (folder / name, folder / base):
        if path.is_file():
            return path
    below = sorted(path for path in folder.rglob(base) if path.is_file())
    whole = [path for path in below if path.as_posix().endswith("/" + name)] or below
    if len(whole) > 1:
        raise DataError(
            f"{folder}: {base} is in it more than once ({whole[0]}, {whole[1]}): name a folder "
            "that holds one of them"
        )
    return whole[0] if whole else None


def _compare(path: Path, kind: str, expected: str, found: str) -> None:
    if found != expected:
        raise DataError(
            f"{path}: its {kind} is {found}, not {expected}: the file is not the original one or "
            "was cut short; download it again"
        )
