"""The configs that come with negflax: configs/ of the repository, negflax/configs/ of a wheel."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from negflax.config.errors import ConfigError


def shipped_path(name: str) -> Path:
    """The file of a shipped config.

    Args:
      name: without .py, such as `synthetic`.

    Raises:
      ConfigError: there is none of that name; the message lists those that there are.
    """
    package = Path(__file__).resolve().parents[1]
    folder = next(
        (f for f in (package / "configs", package.parent / "configs") if f.is_dir()), None
    )
    found = {} if folder is None else {p.stem: p for p in sorted(folder.glob("[!_]*.py"))}
    if name not in found:
        raise ConfigError(
            f"--config={name}: there is no such file, and no such config in negflax; choose from "
            f"{', '.join(found)}"
        )
    return found[name]


def shipped(name: str) -> Any:
    """A shipped config as a ConfigDict, such as another config starts from.

    Raises:
      ConfigError: as `shipped_path`.
    """
    return runpy.run_path(str(shipped_path(name)))["get_config"]()
