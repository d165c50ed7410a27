"""Evaluates a checkpoint on the full catalogue and compares it with the baselines.

  python -m launch.evaluate --workdir=runs/synthetic --checkpoint=best

It needs only the folder of the run and its data set, and runs on any number of devices. Given
several runs of one data set, it evaluates all of them on the same queries and compares each with
the first, with paired confidence intervals:

  python -m launch.evaluate --workdir=runs/ssm,runs/ntr

With --personal it compares the model, without its calibration, with baselines that react to
dislikes and train nothing: negative examples, the calibration, the item's positive rate, and both.
Further runs are rows beside them, so that labels can be compared with what needs no training:

  python -m launch.evaluate --personal --workdir=runs/input_only,runs/input_and_label

With --follow it evaluates every checkpoint of a run on the validation period, during training or
afterwards, and copies the best one to DIR/best. It writes nothing into the folder of the run:

  python -m launch.evaluate --follow --workdir=runs/synthetic --out=DIR
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
from absl import flags

from negflax.calibration import load_calibrated
from negflax.config import ConfigError, MeshConfig, positives_only
from negflax.data import Catalogue, open_sequences
from negflax.evaluate import comparison, evaluation, format_table, summary_rows
from negflax.evaluate.calibration import calibration_figures
from negflax.evaluate.follow import follow
from negflax.evaluate.report import run_page as page
from negflax.evaluate.report.run_page import headline_keys
from negflax.evaluate.scoreboard import MODEL
from negflax.files import write_json
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.processes import from_first
from negflax.train.checkpoint import read_config
from negflax.train.restore import CATALOGUE, load_trained

from . import flags as shared

_OTHER_DATA = (
    "{} have different catalogues: compare runs that were trained on the same data set with equal "
    "config.data"
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run, or several folders, separated by commas, to compare."
)
CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "best", "Which checkpoint: latest, best or a step number."
)
SPLIT = flags.DEFINE_enum(
    "split", None, ["valid", "test"], "Period to score; default: test, or valid with --follow."
)
HTML = flags.DEFINE_string(
    "html", "", "File for the HTML report; default: <workdir>/evaluation-<split>.html."
)
CALIBRATED = flags.DEFINE_boolean(
    "calibrated", True, "Use the calibration of a run, if it has one (docs/calibration.md)."
)
PERSONAL = flags.DEFINE_boolean(
    "personal", False, "Compare with baselines that react to dislikes and train nothing."
)
FOLLOW = flags.DEFINE_boolean(
    "follow", False, "Evaluate each checkpoint as it appears, until training has ended."
)
OUT = flags.DEFINE_string("out", "", "With --follow: folder for the results and the best copy.")
METRIC = flags.DEFINE_string(
    "metric", "", "With --follow: metric that selects the best; default: config.train.metric."
)
POLL = flags.DEFINE_float("poll", 5.0, "With --follow: seconds between checks for a checkpoint.")
TIMEOUT = flags.DEFINE_float(
    "timeout", 0.0, "With --follow: stop after this many seconds without a checkpoint; 0: never."
)


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    if FOLLOW.value:
        follow_run(Path(WORKDIR.value))
    elif PERSONAL.value:
        compare_personal([Path(x) for x in WORKDIR.value.split(",")], SPLIT.value or "test")
    elif "," in WORKDIR.value:
        compare_runs([Path(part) for part in WORKDIR.value.split(",")], SPLIT.value or "test")
    else:
        evaluate_one(Path(WORKDIR.value), SPLIT.value or "test")


def evaluate_one(workdir: Path, split: str) -> None:
    """Evaluates one checkpoint and the baselines, and writes the report."""
    shared.start(workdir)
    mesh = make_mesh(MeshConfig(), jax.devices())
    trained = load_calibrated(workdir, CHECKPOINT.value, mesh, calibrated=CALIBRATED.value)
    sequences = open_sequences(trained.config, workdir, trained.catalogue)
    result = evaluation.evaluate_trained(trained, split, workdir, sequences)
    print(evaluation.result_table(result, trained.config.eval.ks))
    shown = page.look_at(trained.config.name, trained, result, sequences, split, workdir)
    path = Path(HTML.value or workdir / f"evaluation-{split}.html")
    print(f"page: {from_first(lambda: str(page.write_page(path, split, [shown])))}")
    print(evaluation.verdict_text(result))
    figures = {"step": trained.step} | result.metrics | calibration_figures(shown.calibration)
    path_of_figures = shared.JSON.value or workdir / f"evaluation-{split}.json"
    from_first(lambda: write_json(path_of_figures, figures))


def compare_personal(workdirs: list[Path], split: str) -> None:
    """Prints and writes the table of --personal: baselines on the first run, and the others."""
    shared.start(workdirs[0])
    mesh = make_mesh(MeshConfig(), jax.devices())
    same_name = len({path.name for path in workdirs}) < len(workdirs)
    runs = {
        str(path) if same_name else path.name: load_calibrated(path, CHECKPOINT.value, mesh)
        for path in workdirs
    }
    trained, *others = runs.values()
    if not all(other.catalogue.has_rows_of(trained.catalogue) for other in others):
        raise ConfigError(_OTHER_DATA.format(" and ".join(map(str, workdirs))))
    sequences = open_sequences(trained.config, workdirs[0], trained.catalogue)
    compared = dict(zip(list(runs)[1:], others, strict=True))
    result = evaluation.evaluate_personal(trained, split, sequences, compared)
    keys = headline_keys(trained.config.eval.ks)
    names = list(dict.fromkeys(name for _, name in result.values))
    print(format_table([*summary_rows(result.metrics, names, keys)]))
    labelled = [
        name
        for name, run in {MODEL: trained, **compared}.items()
        if not positives_only(run.config.loss.objective)
    ]
    sentence = evaluation.personal_verdict(result, labelled, trained.config.eval.ks[0])
    print(f"\n{sentence}" if sentence else "")
    figures = {"step": trained.step, "verdict": sentence} | result.metrics
    path = shared.JSON.value or workdirs[0] / f"personal-{split}.json"
    from_first(lambda: write_json(path, figures))


def compare_runs(workdirs: list[Path], split: str) -> None:
    """Evaluates several runs on the same queries, with the first run's data and settings."""
    shared.start(workdirs[0])
    mesh = make_mesh(MeshConfig(), jax.devices())
    same_name = len({path.name for path in workdirs}) < len(workdirs)
    shown: list[page.Run] = []
    for workdir in workdirs:
        trained = load_calibrated(workdir, CHECKPOINT.value, mesh, calibrated=CALIBRATED.value)
        if not shown:
            first, sequences = trained, open_sequences(trained.config, workdir, trained.catalogue)
        if not trained.catalogue.has_rows_of(first.catalogue):
            raise ConfigError(_OTHER_DATA.format(f"{workdir} and {workdirs[0]}"))
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
    section = comparison.section(rows)
    print(f"page: {from_first(lambda: str(page.write_page(path, split, shown, [section])))}")
    figures = comparison.figures(rows)
    for name, result in results.items():
        figures |= {f"{name}/{key}": value for key, value in result.metrics.items()}
    path = Path(shared.JSON.value or workdirs[0] / f"comparison-{split}.json")
    from_first(lambda: write_json(path, figures))


def follow_run(workdir: Path) -> None:
    """Evaluates every checkpoint on the validation period and copies the best one."""
    if not OUT.value:
        raise ConfigError("--follow needs --out: name a folder outside --workdir")
    if SPLIT.value == "test":
        raise ConfigError(
            "--follow selects a checkpoint, which must be done on the validation period: leave out "
            "--split=test. Then score the test period once, without --follow: --workdir=OUT/best"
        )
    out = Path(OUT.value)
    shared.start(out)
    follow.wait_for_run(workdir, POLL.value, TIMEOUT.value)
    config, catalogue = read_config(workdir), Catalogue.load(workdir / CATALOGUE)
    follower = follow.Follower(workdir, out, METRIC.value or config.train.metric)
    from_first(lambda: follow.take_data(workdir, out))
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
        figures = {"steps": list(evaluations), "best": best, "metric": follower.metric}
        from_first(lambda: write_json(shared.JSON.value, figures))


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir"])
    shared.run(main, several=True)
