"""Files of JSON lines in a run's folder: logs for people and plots, on which no run depends."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import logging

from negflax.files import plain, write_text


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines, [] if it is not there; what is none is left out."""
    found, bad = [], 0
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):  # cut off by a crash, or damaged
            value = None
        if isinstance(value, dict):
            found.append(value)
        else:
            bad += 1
    if bad:
        logging.warning("%s: %d damaged line(s) are left out", path, bad)
    return found


class JsonLines:
    """Appends objects to a file; a sink of background.py."""

    def __init__(self, path: Path, keep: Callable[[dict[str, Any]], bool] | None = None):
        """Opens it; with `keep`, the lines for which it is False are dropped first."""
        if keep is not None and path.exists():
            kept = [json.dumps(line) + "\n" for line in read_lines(path) if keep(line)]
            write_text(path, "".join(kept))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab", buffering=0)
        self._torn = self._file.tell() > 0 and keep is None

    def write(self, values: dict[str, Any]) -> None:
        """One line; NaN and infinity, which JSON does not know, as null."""
        line = json.dumps(plain(values)).encode() + b"\n"
        line = b"\n" + line if self._torn else line  # a line that was cut off ends here
        self._torn = True
        if self._file.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._torn = False

    def close(self) -> None:
        """Ends the file."""
        self._file.close()
