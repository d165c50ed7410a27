"""Flags and start-up that the programs share."""

from __future__ import annotations

from pathlib import Path

import jax
from absl import flags, logging

JSON = flags.DEFINE_string("json", "", "Write the printed figures to this file.")


def start(workdir: str | Path) -> None:
    """Progress on the terminal; compiled programs are kept in <workdir>/compilation_cache."""
    logging.set_verbosity(logging.INFO)
    handler = logging.get_absl_handler()
    handler.setFormatter(None)
    # Orbax tells dozens of lines a checkpoint through the same logger; its warnings stay.
    handler.addFilter(lambda r: r.levelno >= logging.converter.ABSL_TO_STANDARD[logging.WARNING]
                      or "orbax" not in r.pathname)  # fmt: skip
    jax.config.update(
        "jax_compilation_cache_dir", str(Path(workdir).resolve() / "compilation_cache")
    )
