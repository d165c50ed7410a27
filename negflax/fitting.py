"""Trains a config into a working folder: what `negflax.fit` and the programs have in common."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import logging
from jax.sharding import Mesh

from negflax.allocator import return_memory
from negflax.calibration import parameters_fingerprint, read_calibration, write_calibration
from negflax.calibration.fit_calibration import calibrate
from negflax.config import Config, ConfigError, MeshConfig, check
from negflax.data import DataError, Sequences, StreamBatches
from negflax.data.empty_inputs import empty_inputs
from negflax.data.rule_matches import require_matches
from negflax.evaluate import build_queries, evaluate_scorer
from negflax.evaluate.circumstances import check_list_lengths
from negflax.evaluate.scorer import model_scorer
from negflax.files import write_json
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.processes import from_first
from negflax.tables import padded_rows
from negflax.train.loop import Outcome, planned_steps, train, warm_up_steps
from negflax.train.restore import (
    REFIT,
    Trained,
    checkpoint_folder,
    load_trained,
    load_weight_sums,
    save_catalogue,
)
from negflax.train.run_config import CONFIG, CheckpointError, write_config
from negflax.train.starting import first_state
from negflax.train.step import Trainer
from negflax.train.warm_start import require_same_shapes
from negflax.train.workdir_lock import locked

DATA_REPORT = "data_report.json"


def train_run(
    config: Config,
    workdir: Path,
    sequences: Sequences,
    stop: int = 0,
    init_from: str = "",
    resume_from: str = "",
) -> Outcome:
    """Trains one run into `workdir`, or goes on with it. Where it begins: train/starting.py.

    Args:
      config: the run.
      workdir: its folder.
      sequences: its data.
      stop: step that ends it before its schedule does; 0 is none.
      init_from: folder of a run whose parameters it starts from.
      resume_from: folder of a run that it goes on with.

    Raises:
      ConfigError: settings that do not suit the data or the devices; nothing was written.
      DataError: no label rule of a sign matches an event; nothing was written.
      CheckpointError: the folder holds another run, or another trainer is at work in it.
      Preempted, NonFiniteError: see `train`.
    """
    with locked(workdir):
        return _train_run(config, workdir, sequences, stop, init_from, resume_from)


def accept_change(config: Config, workdir: Path) -> None:
    """Lets a run go on with another config, which then stands in its folder; says what differs.

    Raises:
      ConfigError: the config is not accepted.
      CheckpointError: another trainer is at work in the folder.
    """
    check(config)
    with locked(workdir):
        from_first(lambda: write_config(workdir, config, accept_change=True))
        from_first(lambda: (workdir / REFIT / CONFIG).unlink(missing_ok=True))  # it follows


def _train_run(
    config: Config, workdir: Path, sequences: Sequences, stop: int, init_from: str, resume_from: str
) -> Outcome:
    mesh = mesh_of(config)
    check_list_lengths(config.eval.ks, sequences.catalogue)
    require_matches(sequences.report)
    if init_from and not (workdir / CONFIG).exists():
        require_same_shapes(config, sequences.catalogue, init_from)
    host = jax.process_index(), jax.process_count()
    batches = StreamBatches.of(config, sequences, host=host)
    steps = planned_steps(config, batches)
    if stop > steps:
        logging.warning(
            "the schedule ends at step %d, so training stops there and not at step %d", steps, stop
        )
        stop = steps
    if warm_up_steps(config) >= steps:
        logging.warning(
            "training ends after %d steps, but the warm-ups last until step %d: lower\n"
            "config.loss.positives_only_steps, .ramp_steps and config.optimizer.warmup_steps",
            steps,
            warm_up_steps(config),
        )
    model = Recommender(config.model, sequences.catalogue)
    trainer = Trainer(config, model, sequences.catalogue.train_count_V, steps, mesh)
    validate = validation(config, model, sequences, mesh) if config.train.eval_every else None
    # What could be refused has been; from here on the folder is this run's.
    from_first(lambda: write_config(workdir, config))
    from_first(lambda: save_catalogue(workdir, sequences.catalogue))
    from_first(lambda: write_json(workdir / DATA_REPORT, sequences.report))
    _log_inputs_without_data(config, sequences)
    logging.info(
        "%s: %d steps of %d × %d events, %d labels per epoch, %d items, %d device(s)",
        config.name,
        steps,
        config.batch.rows,
        config.batch.length,
        batches.num_targets,
        sequences.catalogue.num_rows - 1,
        mesh.size,
    )
    for name, spec in model.tables.items():
        padded = padded_rows(spec.num_rows, mesh.size)
        if padded > spec.num_rows:
            logging.info(
                "table %s: %d rows, rounded up to %d for %d devices",
                name,
                spec.num_rows,
                padded,
                mesh.size,
            )
    init = functools.partial(
        first_state, trainer, sequences.catalogue, workdir, resume_from, init_from
    )
    return train(config, trainer, batches, stop or steps, workdir, validate, init)


def _log_inputs_without_data(config: Config, sequences: Sequences) -> None:
    """Names the inputs that the model reads in vain; with a warning those that are no default."""
    model = config.model
    if empty := empty_inputs(sequences, model.features):
        logging.info("no event has a known %s: config.model.features", " or ".join(empty))
    if empty := empty_inputs(sequences, set(model.composed) - {"vector"}):
        logging.warning(
            "no item has a known %s, so that config.model.composed adds nothing by it: give an "
            "item table (config.data.items_path)",
            " or ".join(sorted(empty)),
        )


def calibrate_run(workdir: Path, which: str, sequences: Sequences) -> Trained:
    """Fits the calibration of a trained run into its folder, and returns the calibrated checkpoint.

    Args:
      workdir: folder of the run.
      which: `best`, `latest` or a step.
      sequences: data of the run.

    Raises:
      CheckpointError: there is no such checkpoint.
      ConfigError, DataError: see `negflax.calibration.fit_calibration.calibrate`.
    """
    folder = checkpoint_folder(workdir, which)
    mesh = make_mesh(MeshConfig(), jax.devices())
    trained = load_trained(workdir, which, mesh)
    found = calibrate(trained, sequences, load_weight_sums(workdir, which, mesh))
    return_memory()  # hundreds of MB
    from_first(lambda: str(write_calibration(folder, found)))
    return dataclasses.replace(trained, calibration=found)


def calibrate_after_training(workdir: Path, sequences: Sequences) -> None:
    """Calibrates the best checkpoint, unless it has a calibration, which may be of other settings.

    A run that cannot be calibrated stays as it is, with a warning.

    Args:
      workdir: folder of the run.
      sequences: data of the run.
    """
    if _calibrated(workdir):
        logging.info("%s keeps its calibration: launch.calibrate fits another", workdir)
        return
    try:
        calibrate_run(workdir, "best", sequences)
    except (ConfigError, DataError) as error:
        logging.warning("not calibrated (config.calibration.after_training): %s", error)


def _calibrated(workdir: Path) -> bool:
    """Whether the best checkpoint has a calibration that can be read."""
    try:
        stored = read_calibration(checkpoint_folder(workdir, "best"))
    except CheckpointError:  # a damaged file, which is replaced
        return False
    if stored is None:
        return False
    trained = load_trained(workdir, "best", make_mesh(MeshConfig(), jax.devices()))
    return stored.model == parameters_fingerprint(trained)


def mesh_of(config: Config) -> Mesh:
    """The devices of a run.

    Raises:
      ConfigError: the rows of a batch do not divide among them.
    """
    mesh = make_mesh(config.mesh)
    if config.batch.rows % mesh.size:
        raise ConfigError(
            f"config.batch.rows = {config.batch.rows} does not divide among {mesh.size} devices: "
            "use a multiple of that number"
        )
    return mesh


def validation(
    config: Config, model: Recommender, sequences: Sequences, mesh: Mesh
) -> Callable[[dict[str, Any]], dict[str, float]]:
    """What scores the validation period: state → metrics."""
    queries = build_queries(
        sequences, "valid", config.eval.valid_users, config.eval.seed, config.eval.state
    )

    def validate(state: dict[str, Any]) -> dict[str, float]:
        scorer = model_scorer(model, state, sequences, mesh, config.eval.history)
        return evaluate_scorer(scorer, queries, sequences, config.eval)

    return validate


def refit(
    config: Config, workdir: Path, sequences: Sequences, best_step: int, init_from: str = ""
) -> Outcome:
    """Trains anew on training + validation events, for as many epochs as the best step had."""
    splits = ("train", "valid")
    first = StreamBatches.of(config, sequences)
    both = StreamBatches.of(config, sequences, splits)
    growth = both.steps_per_epoch / first.steps_per_epoch
    again = dataclasses.replace(
        config.train,
        splits=splits,
        eval_every=0,
        patience=0,
        refit=False,
        steps=round(planned_steps(config, first) * growth),
    )
    logging.info("retraining on training + validation events; the best step was %d", best_step)
    return train_run(
        dataclasses.replace(config, train=again),
        workdir,
        sequences,
        round(best_step * growth),
        init_from,
    )
