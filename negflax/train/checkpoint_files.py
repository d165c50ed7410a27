"""The files of a checkpoint that are read and moved without Orbax: damage stays where it is.

Orbax reads the metrics of all checkpoints as it opens the folder, and one damaged file would then
hide the others.
"""

from __future__ import annotations

import json
from pathlib import Path

import jax
from absl import logging
from jax.experimental import multihost_utils

from negflax.files import write_json

METRICS = "metrics"  # item of a checkpoint: what its validation found
FINGERPRINTS = "fingerprints"  # item of a checkpoint beside its state
_METADATA = "_CHECKPOINT_METADATA"  # Orbax's own file


def read_validation(checkpoint: Path) -> dict[str, float] | None:
    """Metrics of a checkpoint; None if it was saved without, or they are damaged, which is said."""
    path = checkpoint / METRICS / METRICS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        found = error
    if isinstance(found, dict):
        return found
    logging.warning(
        "%s is damaged (%s): its checkpoint cannot be selected as the best", path, str(found)
    )
    return None


def write_validation(checkpoint: Path, metrics: dict[str, float]) -> None:
    """Metrics of a checkpoint that was saved before they were known; by the first process."""
    if jax.process_index() == 0:
        write_json(checkpoint / METRICS / METRICS, metrics)


def say_what_is_missing(checkpoint: Path, fingerprinted: bool) -> None:
    """Warns of files that a whole checkpoint has: without them, less is checked."""
    names = (_METADATA, FINGERPRINTS) if fingerprinted else (_METADATA,)
    for name in names:
        if not (checkpoint / name).exists():
            logging.warning(
                "%s has no %s: it is an incomplete copy, or damaged%s",
                checkpoint,
                name,
                "; without it, the arrays cannot be verified" if name == FINGERPRINTS else "",
            )


def move_aside(checkpoint: Path, place: Path) -> None:
    """Moves a checkpoint into the folder `place`, under its name or, if taken, the name and -2."""
    if jax.process_index() == 0:
        place.mkdir(exist_ok=True)
        target, number = place / checkpoint.name, 2
        while target.exists():
            target, number = place / f"{checkpoint.name}-{number}", number + 1
        checkpoint.rename(target)
        logging.warning("%s was moved to %s", checkpoint, target)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"aside {checkpoint.name}")
