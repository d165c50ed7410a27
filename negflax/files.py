"""Files that appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes text atomically, making the folder if needed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes JSON atomically; NaN is an error, as JSON has none."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")
