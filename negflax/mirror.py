"""A remote folder and its local copy, made equal in either direction.

The object `MANIFEST` lists the files of the remote folder as they were uploaded. A checkpoint is
uploaded as a whole: the file with which Orbax marks a complete one goes last and is deleted first,
so the remote folder holds valid Orbax checkpoints at any moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fsspec

from negflax.config import ConfigError
from negflax.files import replacing, write_json

MANIFEST = ".manifest.json"
COMPLETE = "commit_success.txt"  # of Orbax, in a complete checkpoint
_KNOWN = ".mirror.json"  # in the local copy: the manifest that it was last equal to, and its files
_LOCAL = re.compile(r"(^|/)(compilation_cache|sequences-\w+)/|\.lock$|\.tmp(/|$)|-checkpoint-tmp")
_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "az": "adlfs", "abfs": "adlfs"}

Files = dict[str, list[int]]  # name → [bytes, time of the last change in ns]


class Mirror:
    """A remote folder and its local copy."""

    def __init__(self, url: str, folder: Path):
        """Opens the store; nothing is read yet.

        Args:
          url: of the remote folder, in a protocol of fsspec.
          folder: the local copy.

        Raises:
          ConfigError: the protocol is unknown, or a package for it is not installed.
        """
        try:
            self._store, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            package = _PACKAGES.get(url.partition("://")[0])
            told = f"pip install {package}" if package else f"no protocol of fsspec ({error})"
            raise ConfigError(f"{url}: {told}") from error
        self._root, self.folder = self._root.rstrip("/"), folder

    def download(self) -> bool:
        """Makes the local copy equal to the remote folder; returns whether it differed.

        A copy that was equal to the newest manifest has lost nothing since, and is kept: what
        differs in it is still to be uploaded.
        """
        manifest, known = self._manifest(), self._known()
        if manifest == known["manifest"]:
            return False
        local = self._local_files()
        if not manifest and not known["manifest"]:  # new, or killed before its first upload
            self._remember({}, {})
            return False
        fresh = {
            name
            for name, there in manifest.items()
            if known["manifest"].get(name) != there or known["files"].get(name) != local.get(name)
        }
        renewed = {_checkpoint_of(name) for name in fresh | (set(local) - set(manifest))} - {None}
        for name in set(local) - set(manifest):
            (self.folder / name).unlink(missing_ok=True)
        for name in sorted(fresh):
            if _checkpoint_of(name) is None:
                self._fetch(name, self.folder / name)
        for checkpoint in renewed:
            self._fetch_checkpoint(checkpoint, manifest)
        self._remember(manifest, self._local_files())
        return True

    def upload(self) -> None:
        """Makes the remote folder equal to the local copy.

        What others have uploaded meanwhile under other names stays.
        """
        known, local = self._known(), self._local_files()
        changed = {name for name in local if known["files"].get(name) != local[name]}
        gone = set(known["files"]) - set(local)
        if not changed and not gone:
            return
        touched = {_checkpoint_of(name) for name in changed | gone} - {None}
        last = {f"{checkpoint}/{COMPLETE}" for checkpoint in touched}
        for name in last:
            self._delete(name)
        for name in gone:
            self._delete(name)
        broken = set()  # deleted here meanwhile: the next upload sees it
        for name in [*sorted(changed - last), *sorted(last & set(local))]:
            if name in last and _checkpoint_of(name) in broken:
                continue
            try:
                self._store.put_file(str(self.folder / name), self._at(name))
            except FileNotFoundError:
                broken.add(_checkpoint_of(name))
                del local[name]
        manifest = {k: v for k, v in self._manifest().items() if k not in gone} | local
        self.write(MANIFEST, manifest)
        self._remember(manifest, local)

    def put(self) -> None:
        """Uploads the local copy: a file, or all files of a folder."""
        if self.folder.is_file():
            self._store.put_file(str(self.folder), self._root)
        for name in self._local_files():
            self._store.put_file(str(self.folder / name), self._at(name))

    def read(self, name: str) -> Any:
        """Returns the JSON of a remote object; None if there is none, or it is damaged."""
        try:
            return json.loads(self._store.cat_file(self._at(name)))
        except (FileNotFoundError, ValueError):
            return None

    def write(self, name: str, value: Any) -> None:
        """Writes a remote object as JSON."""
        self._store.pipe_file(self._at(name), json.dumps(value).encode())

    def delete(self, name: str) -> None:
        """Deletes a remote object, if it is there."""
        self._delete(name)

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _manifest(self) -> Files:
        """What is there; by a listing, if the folder was copied there by other means."""
        found = self.read(MANIFEST)
        return found if isinstance(found, dict) else self._manifest_of_listing()

    def _manifest_of_listing(self) -> Files:
        with contextlib.suppress(FileNotFoundError):
            listed = self._store.find(self._root, detail=True)
            start = len(self._root) + 1
            names = {path[start:]: [entry["size"], 0] for path, entry in listed.items()}
            return {k: v for k, v in names.items() if k and not k.startswith(".")}
        return {}

    def _fetch(self, name: str, path: Path) -> None:
        with replacing(path) as temporary:
            self._store.get_file(self._at(name), str(temporary))

    def _fetch_checkpoint(self, checkpoint: str, manifest: Files) -> None:
        """Replaces a local checkpoint; one that is incomplete, or being replaced, is not taken."""
        names = [name for name in manifest if _checkpoint_of(name) == checkpoint]
        place = self.folder / checkpoint
        shutil.rmtree(place, ignore_errors=True)
        if f"{checkpoint}/{COMPLETE}" not in names:
            return
        half = place.with_name(f".{place.name}.tmp")
        shutil.rmtree(half, ignore_errors=True)
        try:
            for name in sorted(names, key=lambda name: name.endswith(COMPLETE)):
                self._fetch(name, half / Path(name).relative_to(checkpoint))
        except FileNotFoundError:
            shutil.rmtree(half)
        else:
            os.replace(half, place)

    def _known(self) -> dict[str, Files]:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads((self.folder / _KNOWN).read_text())
            return {"manifest": known["manifest"], "files": known["files"]}
        return {"manifest": {}, "files": {}}

    def _remember(self, manifest: Files, files: Files) -> None:
        write_json(self.folder / _KNOWN, {"manifest": manifest, "files": files})

    def _local_files(self) -> Files:
        found = {}
        for path in _files_below(self.folder):
            name = path.relative_to(self.folder).as_posix()
            if name != _KNOWN and not _LOCAL.search(name):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    status = path.stat()
                    found[name] = [status.st_size, status.st_mtime_ns]
        return found

    def _delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._store.rm_file(self._at(name))


def _files_below(folder: Path) -> Iterable[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names)


def _checkpoint_of(name: str) -> str | None:
    """The folder of the checkpoint that a file belongs to, as checkpoints/40."""
    found = re.match(r"(.*?(?:^|/)checkpoints/\d+)/", name)
    return found[1] if found else None
