"""Evaluates a checkpoint: full-catalogue ranking beside random, popularity and Markov baselines.

  python -m launch.evaluate --workdir=runs/synthetic --checkpoint=best

Needs nothing but the run's folder (and its data set); runs on any number of devices. Several runs
of one data set are compared on the same queries, each with the first, by paired intervals:

  python -m launch.evaluate --workdir=runs/ssm,runs/ntr

While a run
is training, or after it, every checkpoint can be evaluated on the validation period, and the best
one promoted to DIR/best, without a write into the run's folder:

  python -m launch.evaluate --follow --workdir=runs/synthetic --out=DIR
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
from absl import flags

from negflax.config import ConfigError, MeshConfig
from negflax.data import Catalogue, open_sequences
from negflax.evaluate import comparison, evaluation, format_table
from negflax.evaluate.calibration import calibration_figures
from negflax.evaluate.follow import follow
from negflax.evaluate.report import run_page as page
from negflax.files import write_json
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.train.checkpoint import read_config
from negflax.train.restore import CATALOGUE, load_trained

from . import flags as shared

WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; several, parted by commas, are compared."
)
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "latest, best or a step.")
SPLIT = flags.DEFINE_enum(
    "split", None, ["valid", "test"], "Period to score; default test, with --follow valid."
)
HTML = flags.DEFINE_string("html", "", "The page; default <workdir>/evaluation-<split>.html.")
FOLLOW = flags.DEFINE_boolean("follow", False, "Evaluate each checkpoint until the run has ended.")
OUT = flags.DEFINE_string("out", "", "With --follow: where everything goes.")
METRIC = flags.DEFINE_string(
    "metric", "", "With --follow: promotes the best; default config.train.metric."
)
POLL = flags.DEFINE_float("poll", 5.0, "With --follow: seconds between looks into the run.")
TIMEOUT = flags.DEFINE_float(
    "timeout", 0.0, "With --follow: give up after these seconds without a checkpoint; 0: never."
)


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    if FOLLOW.value:
        follow_run(Path(WORKDIR.value))
    elif "," in WORKDIR.value:
        compare_runs([Path(part) for part in WORKDIR.value.split(",")], SPLIT.value or "test")
    else:
        evaluate_one(Path(WORKDIR.value), SPLIT.value or "test")


def evaluate_one(workdir: Path, split: str) -> None:
    """One checkpoint beside the baselines."""
    shared.start(workdir)
    trained = load_trained(workdir, CHECKPOINT.value, make_mesh(MeshConfig(), jax.devices()))
    sequences = open_sequences(trained.config, workdir, trained.catalogue)
    result = evaluation.evaluate_trained(trained, split, workdir, sequences)
    print(evaluation.result_table(result, trained.config.eval.ks))
    shown = page.look_at(trained.config.name, trained, result, sequences, split, workdir)
    path = Path(HTML.value or workdir / f"evaluation-{split}.html")
    print(f"page: {page.write_page(path, split, [shown])}")
    print(evaluation.verdict_text(result))
    write_json(
        shared.JSON.value or workdir / f"evaluation-{split}.json",
        {"step": trained.step} | result.metrics | calibration_figures(shown.calibration),
    )


def compare_runs(workdirs: list[Path], split: str) -> None:
    """Several runs on the queries of the first one's data, labels and settings."""
    shared.start(workdirs[0])
    mesh = make_mesh(MeshConfig(), jax.devices())
    same_name = len({path.name for path in workdirs}) < len(workdirs)
    shown: list[page.Run] = []
    for workdir in workdirs:
        trained = load_trained(workdir, CHECKPOINT.value, mesh)
        if not shown:
            first, sequences = trained, open_sequences(trained.config, workdir, trained.catalogue)
        if not trained.catalogue.has_rows_of(first.catalogue):
            raise ConfigError(
                f"{workdir} and {workdirs[0]} know different items: compare runs that were trained "
                "on one data set with equal config.data"
            )
        settings = dataclasses.replace(first.config.eval, history=trained.config.eval.history)
        config = dataclasses.replace(trained.config, eval=settings)
        trained = dataclasses.replace(trained, config=config)
        name = str(workdir) if same_name else workdir.name
        result = evaluation.evaluate_trained(trained, split, workdir, sequences)
        shown.append(page.look_at(name, trained, result, sequences, split, workdir))
    results = {one.name: one.result for one in shown}
    rows = comparison.compare(results, first.config.eval)
    print(format_table(rows))
    path = Path(HTML.value or workdirs[0] / f"comparison-{split}.html")
    print(f"page: {page.write_page(path, split, shown, [comparison.section(rows)])}")
    figures = comparison.figures(rows)
    for name, result in results.items():
        figures |= {f"{name}/{key}": value for key, value in result.metrics.items()}
    write_json(shared.JSON.value or workdirs[0] / f"comparison-{split}.json", figures)


def follow_run(workdir: Path) -> None:
    """Every checkpoint on the validation period, the best one promoted."""
    if not OUT.value:
        raise ConfigError("--follow needs --out: a folder outside of --workdir")
    if SPLIT.value == "test":
        raise ConfigError(
            "--follow chooses a checkpoint, and that is done on --split=valid; then score the "
            "test period once: --workdir=OUT/best --split=test, without --follow"
        )
    out = Path(OUT.value)
    shared.start(out)
    follow.wait_for_run(workdir, POLL.value, TIMEOUT.value)
    config, catalogue = read_config(workdir), Catalogue.load(workdir / CATALOGUE)
    follower = follow.Follower(workdir, out, METRIC.value or config.train.metric)
    follow.take_data(workdir, out)
    sequences = open_sequences(config, out, catalogue)
    model = Recommender(config.model, catalogue)  # one for all steps: compiled once
    mesh = make_mesh(MeshConfig(), jax.devices())

    def evaluate(snapshot: Path, step: int) -> dict[str, Any]:
        trained = load_trained(snapshot, str(step), mesh, model)
        return evaluation.evaluate_model(trained, "valid", sequences).metrics

    evaluations = follower.run(evaluate, POLL.value, TIMEOUT.value)
    best = follower.best()
    print(evaluation.steps_table(evaluations, best, config))
    if best is not None:
        print(f"best by {follower.metric}: step {best}, {out / 'best'}")
    if shared.JSON.value:
        steps = list(evaluations)
        write_json(shared.JSON.value, {"steps": steps, "best": best, "metric": follower.metric})


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir"])
    shared.run(main)
