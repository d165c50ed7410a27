"""The calibration as a file beside the checkpoints, and checkpoints with theirs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from absl import logging
from jax.sharding import Mesh

from negflax.calibration.kind_shift import Calibration
from negflax.calibration.kind_terms import SCALARS, Scales
from negflax.config.feedback_calibration import KINDS
from negflax.files import plain, write_json
from negflax.model import Recommender
from negflax.train.checkpoint import CheckpointError
from negflax.train.fingerprint import fingerprints
from negflax.train.restore import Trained, checkpoint_folder, load_trained

FILE, VERSION = "calibration.json", 2


def parameters_fingerprint(trained: Trained) -> str:
    """Names the parameters of a checkpoint and its items: equal for equal scores."""
    parts = {"dense": trained.state["dense"]}
    parts["tables"] = {k: {"rows": x["rows"]} for k, x in trained.state["tables"].items()}
    rows = {name: spec.num_rows for name, spec in trained.model.tables.items()}
    said = {
        "model": dataclasses.asdict(trained.config.model),
        "items": trained.catalogue.fingerprint,
        "arrays": fingerprints(parts, rows),
    }
    text = json.dumps(said, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def to_json(calibration: Calibration) -> dict[str, Any]:
    """What the file and an export hold."""
    return {
        "version": VERSION,
        "model": calibration.model,
        "scales": dataclasses.asdict(calibration.scales),
        "values": {kind: dict(values) for kind, values in calibration.values.items()},
        "report": plain(dict(calibration.report)),
    }


def from_json(stored: Any) -> Calibration:
    """What `to_json` gave.

    Raises:
      ValueError, TypeError, LookupError: it is something else.
    """
    if stored["version"] != VERSION:
        raise ValueError(f"version {stored['version']}, this negflax reads version {VERSION}")
    values = {k: {n: float(x) for n, x in v.items()} for k, v in stored["values"].items()}
    names = {name for of_kind in values.values() for name in of_kind}
    if unknown := (names - set(SCALARS)) | (set(values) - set(KINDS)):
        raise ValueError(f"unknown names: {', '.join(sorted(unknown))}")
    return Calibration(
        str(stored["model"]), Scales(**stored["scales"]), values, stored.get("report", {})
    )


def write_calibration(folder: str | Path, calibration: Calibration) -> Path:
    """Writes it into the folder of the run, atomically."""
    path = Path(folder) / FILE
    write_json(path, to_json(calibration))
    return path


def read_calibration(folder: str | Path) -> Calibration | None:
    """That of a folder; None where there is none.

    Raises:
      CheckpointError: the file is damaged.
    """
    path = Path(folder) / FILE
    if not path.exists():
        return None
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is damaged or of another release ({error}): delete it, and fit it again by "
            "launch.calibrate"
        ) from error


def load_calibrated(
    workdir: str | Path,
    which: str,
    mesh: Mesh,
    model: Recommender | None = None,
    *,
    calibrated: bool = True,
) -> Trained:
    """A checkpoint with its calibration, if it has one.

    Args:
      workdir: folder of the run.
      which: `latest`, `best` or a step.
      mesh: of any size.
      model: as in `load_trained`.
      calibrated: False leaves it off.

    Raises:
      CheckpointError: see `load_trained`; or a damaged calibration.
    """
    trained = load_trained(workdir, which, mesh, model)
    folder = checkpoint_folder(workdir, which)
    calibration = read_calibration(folder) if calibrated else None
    if calibration is None:
        return trained
    if calibration.model != parameters_fingerprint(trained):
        logging.warning(
            "%s belongs to another checkpoint than that of step %d and is not used: fit one by "
            "launch.calibrate --checkpoint=%s",
            folder / FILE,
            trained.step,
            which,
        )
        return trained
    return dataclasses.replace(trained, calibration=calibration)
