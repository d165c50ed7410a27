"""Trains a run, resumes it where it stopped, and evaluates what came out.

  python -m launch.train --config=configs/synthetic.py --workdir=runs/synthetic

Any setting can be changed on the command line: --config.loss.omega=1.0. A run that was killed goes
on from its newest checkpoint when the same command is given again.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from launch import flags as shared
from negflax.config import Config, from_config_dict
from negflax.data import Sequences, StreamBatches, build_sequences, open_source
from negflax.evaluate import build_requests, evaluate_scorer, run
from negflax.evaluate.scorer import model_scorer
from negflax.files import write_json
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.train.checkpoint import write_config
from negflax.train.loop import Outcome, planned_steps, train
from negflax.train.restore import CATALOGUE, load_trained
from negflax.train.step import Trainer

CONFIG = config_flags.DEFINE_config_file("config", None, "One of configs/*.py.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, metrics, report.")
TEST = flags.DEFINE_boolean("test", True, "Score the test period once training has ended.")


def fit(config: Config, workdir: Path, sequences: Sequences, stop: int = 0) -> Outcome:
    """Trains one run into `workdir`; `stop` ends it before its schedule does."""
    mesh = make_mesh(config.mesh)
    if config.batch.rows % mesh.size:
        raise ValueError(
            f"config.batch.rows = {config.batch.rows} does not divide among {mesh.size} devices"
        )
    write_config(workdir, config)
    sequences.catalogue.save(workdir / CATALOGUE)
    batches = StreamBatches(sequences, config.batch, config.labels, config.train.splits)
    steps = planned_steps(config, batches)
    model = Recommender(config.model, sequences.catalogue)
    trainer = Trainer(config, model, sequences.catalogue.train_count_V, steps, mesh)
    validate = _validation(config, model, sequences, mesh) if config.train.eval_every else None
    logging.info(
        "%s: %d steps of %d × %d events, %d labels an epoch, %d items, %d device(s)", config.name,
        steps, config.batch.rows, config.batch.length, batches.num_targets,
        sequences.catalogue.num_rows - 1, mesh.size,
    )  # fmt: skip
    return train(config, trainer, batches, stop or steps, workdir, validate)


def _validation(config: Config, model: Recommender, sequences: Sequences, mesh: Any):
    requests = build_requests(sequences, "valid", config.eval.valid_users, config.eval.seed)

    def validate(state: dict[str, Any]) -> dict[str, float]:
        scorer = model_scorer(model, state, sequences, mesh, config.eval.history)
        return evaluate_scorer(scorer, requests, sequences, config.eval)

    return validate


def refit(config: Config, workdir: Path, sequences: Sequences, best_step: int) -> Outcome:
    """Trains anew on training + validation events, for as many epochs as the best step had."""
    splits = ("train", "valid")
    first = StreamBatches(sequences, config.batch, config.labels, config.train.splits)
    both = StreamBatches(sequences, config.batch, config.labels, splits)
    growth = both.steps_per_epoch / first.steps_per_epoch
    again = dataclasses.replace(
        config.train, splits=splits, eval_every=0, patience=0, refit=False,
        steps=round(planned_steps(config, first) * growth),
    )  # fmt: skip
    logging.info("refitting on training + validation events, best step was %d", best_step)
    return fit(
        dataclasses.replace(config, train=again), workdir, sequences, round(best_step * growth)
    )


def figures(outcome: Outcome) -> dict[str, Any]:
    """What --json holds besides the metrics."""
    return {
        "step": outcome.step,
        "best_step": outcome.best_step,
        "targets_per_cpu_second": outcome.targets_per_cpu_second,
        "devices": jax.device_count(),
        **{f"seconds/{k}": v for k, v in outcome.goodput.wall.items()},
        **{f"cpu_seconds/{k}": v for k, v in outcome.goodput.cpu.items()},
    }


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    workdir = Path(WORKDIR.value)
    shared.start(workdir)
    config = from_config_dict(CONFIG.value)
    sequences = build_sequences(open_source(config, workdir), config)
    write_json(workdir / "data_report.json", sequences.report)
    outcome = fit(config, workdir, sequences)
    results = figures(outcome)
    final = workdir
    if config.train.refit:
        final = workdir / "refit"
        refit(config, final, sequences, outcome.best_step)
    if TEST.value:
        trained = load_trained(final, "best", make_mesh(config.mesh))
        result = run.evaluate_trained(trained, "test", workdir, sequences)
        page = run.write_page(workdir / "report.html", trained, result, "test", workdir)
        print(run.result_table(result, config.eval.ks))
        print(f"report: {page}")
        results |= result.metrics
    print(f"{outcome.targets_per_cpu_second:,.0f} targets per CPU second")
    write_json(shared.JSON.value or workdir / "results.json", results)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
