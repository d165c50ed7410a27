"""Trains a run, resumes it where it stopped, and evaluates what came out.

  python -m launch.train --config=configs/synthetic.py --workdir=runs/synthetic

Any setting can be changed on the command line: --config.loss.omega=1.0. A run that was killed goes
on from its newest checkpoint when the same command is given again. --init_from=FOLDER starts from
the best checkpoint of another run, whose catalogue may differ: rows go by item id. With
config.data.reserved_items above 0, that catalogue grows and its items keep their rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import config_flags

from launch import flags as shared
from negflax.config import from_config_dict
from negflax.data import open_sequences
from negflax.evaluate import run
from negflax.evaluate.calibration import calibration_figures
from negflax.evaluate.report import run_page as page
from negflax.files import write_json
from negflax.fit import fit, refit
from negflax.mesh import make_mesh
from negflax.train.checkpoint import write_config
from negflax.train.loop import Outcome
from negflax.train.restore import REFIT, load_trained
from negflax.train.warm_start import catalogue_of

CONFIG = config_flags.DEFINE_config_file("config", None, "One of configs/*.py.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, metrics, report.")
INIT_FROM = flags.DEFINE_string("init_from", "", "Folder of a run to start the parameters from.")
TEST = flags.DEFINE_boolean("test", True, "Score the test period once training has ended.")


def figures(outcome: Outcome) -> dict[str, Any]:
    """What --json holds besides the metrics."""
    return {
        "step": outcome.step,
        "best_step": outcome.best_step,
        "targets_per_cpu_second": outcome.targets_per_cpu_second or None,
        "device_wait_share": outcome.goodput.wait_share,
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
    write_config(workdir, config)  # another run's folder is refused before any work
    grows = INIT_FROM.value and config.data.reserved_items
    known = catalogue_of(INIT_FROM.value) if grows else None
    sequences = open_sequences(config, workdir, known=known)
    write_json(workdir / "data_report.json", sequences.report)
    outcome = fit(config, workdir, sequences, init_from=INIT_FROM.value)
    results = figures(outcome)
    if config.train.refit:
        refit(config, workdir / REFIT, sequences, outcome.best_step, INIT_FROM.value)
    if TEST.value:
        trained = load_trained(workdir, "best", make_mesh(config.mesh))
        result = run.evaluate_trained(trained, "test", workdir, sequences)
        print(run.result_table(result, config.eval.ks))
        shown = page.look_at(config.name, trained, result, sequences, "test", workdir)
        print(f"report: {page.write_page(workdir / 'report.html', 'test', [shown])}")
        results |= result.metrics | calibration_figures(shown.calibration)
    if outcome.targets_per_cpu_second:  # else nothing was left to train
        print(f"{outcome.targets_per_cpu_second:,.0f} targets per CPU second")
    write_json(shared.JSON.value or workdir / "results.json", results)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    shared.run(main)
