"""Calibrates a trained run by feedback counts: what a user did with a cluster or creator before.

  python -m launch.calibrate --workdir=runs/mine

fits a few scalars on the run's training events, keeps the terms that improve the objective of
held-out labels, prints them, and stores them in the folder of the run, as calibration.json.
Evaluation, lists, sessions and exports then use them (docs/calibration.md). Settings are those of
the run, config.calibration, unless they are given here; --delete takes a calibration away.
"""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import Any

import jax
from absl import flags

from negflax.calibration.fit_calibration import calibrate
from negflax.calibration.stored_calibration import FILE, write_calibration
from negflax.config import CalibrationConfig, MeshConfig, parse_tuple
from negflax.config.checks import check
from negflax.data import open_sequences
from negflax.evaluate import format_table
from negflax.files import plain, write_json
from negflax.mesh import make_mesh
from negflax.processes import from_first
from negflax.train.restore import checkpoint_folder, load_trained, load_weight_sums
from negflax.train.run_config import CheckpointError, read_config

from . import flags as shared

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "best", "Which checkpoint: latest, best or a step number."
)
DELETE = flags.DEFINE_boolean("delete", False, "Delete the calibration of the run.")
SETTINGS = flags.DEFINE_multi_string(
    "set", [], "A setting of config.calibration for this fit, as in --set=kinds=cluster."
)


def settings_of(config: Any, given: list[str]) -> CalibrationConfig:
    """The run's settings with those of --set in their place, checked."""
    kinds = typing.get_type_hints(CalibrationConfig)
    del kinds["after_training"]  # of the training, not of a fit
    changes: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if name not in kinds:
            known = ", ".join(kinds)
            raise shared.ConfigError(f"--set={text}: `{name}` is not a setting; known: {known}")
        if not equals or not value:
            raise shared.ConfigError(f"--set={text}: write --set=name=value")
        kind = kinds[name]
        if typing.get_origin(kind) is tuple:
            changes[name] = parse_tuple(value)
        elif kind in (int, float):
            try:
                changes[name] = kind(value)
            except ValueError:
                wanted = "a whole number" if kind is int else "a number"
                raise shared.ConfigError(f"--set={text}: give {wanted}") from None
        else:
            changes[name] = value
    settings = dataclasses.replace(config.calibration, **changes)
    check(dataclasses.replace(config, calibration=settings))
    return settings


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    workdir = Path(WORKDIR.value)
    shared.start(workdir)
    folder = checkpoint_folder(workdir, CHECKPOINT.value)
    if DELETE.value:
        read_config(folder)  # that it is a run
        if not (folder / FILE).exists():
            raise CheckpointError(f"there is no calibration to delete: {folder / FILE}")
        from_first(lambda: (folder / FILE).unlink(missing_ok=True))
        print(f"{folder / FILE} is deleted: scores are the model's own")
        return
    mesh = make_mesh(MeshConfig(), jax.devices())
    trained = load_trained(workdir, CHECKPOINT.value, mesh)
    settings = settings_of(trained.config, SETTINGS.value)
    sequences = open_sequences(trained.config, workdir, trained.catalogue)
    sums = load_weight_sums(workdir, CHECKPOINT.value, mesh)
    calibration = calibrate(trained, sequences, sums, settings)
    report = calibration.report
    print(format_table(report["rows"]))
    aim = f", ω = {settings.omega:g} of its own" if settings.omega else ""
    print(
        f"fitted on {report['labels']:,} labels with w = {report['w']:.4g}{aim}, chosen on these "
        f"(each under a fit without its user) and on {report['held_out_labels']:,} validation "
        "labels; gains are those of the objective per label"
    )
    path = from_first(lambda: str(write_calibration(folder, calibration)))
    print(f"stored: {path}" if calibration.values else f"stored: {path}, which changes no score")
    if shared.JSON.value:
        figures = {"values": {k: dict(v) for k, v in calibration.values.items()}} | dict(report)
        from_first(lambda: write_json(shared.JSON.value, plain(figures)))


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir"])
    shared.run(main)
