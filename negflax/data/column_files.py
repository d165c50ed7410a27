"""Columns that grow on disk, as .npy files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


class ColumnFiles:
    """Writes named 1-D columns piece by piece, each to <folder>/<name>.npy."""

    def __init__(self, folder: Path) -> None:
        """Starts without columns; the folder exists."""
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._kinds: dict[str, tuple[np.dtype, int]] = {}

    def append(self, columns: dict[str, np.ndarray]) -> None:
        """Adds a piece to each of these columns.

        Raises:
          ValueError: the dtype is not that of the pieces before.
        """
        for name, piece_E in columns.items():
            if name not in self._files:
                self._files[name] = open(self._folder / f"{name}.npy", "wb")
                self._kinds[name] = piece_E.dtype, 0
                self._header(name)
            dtype, num = self._kinds[name]
            if piece_E.dtype != dtype:
                raise ValueError(f"column {name}: a piece of {piece_E.dtype} after {dtype}")
            self._files[name].write(np.ascontiguousarray(piece_E).data)
            self._kinds[name] = dtype, num + len(piece_E)

    def close(self) -> None:
        """Writes the lengths; the files are whole from here on."""
        for name, file in self._files.items():
            end = file.tell()
            file.seek(0)
            self._header(name)  # as long as the first one: NumPy leaves room for any length
            file.seek(end)
            file.close()

    def __enter__(self) -> ColumnFiles:
        """For `with`: closes at the end."""
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Lengths are written only where all went well."""
        if kind is None:
            self.close()
        for file in self._files.values():
            try:
                file.close()
            except OSError:  # a full disk, told already
                pass

    def _header(self, name: str) -> None:
        dtype, num = self._kinds[name]
        described = {"descr": dtype.str, "fortran_order": False, "shape": (num,)}
        np.lib.format.write_array_header_1_0(self._files[name], described)
