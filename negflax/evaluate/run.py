"""Evaluation of a run's checkpoint: ranking beside the floors, as figures, table and page."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from negflax.config import Config
from negflax.data import Sequences, open_sequences
from negflax.evaluate import plots, report
from negflax.evaluate.checks import check_finite, check_list_lengths, circumstances
from negflax.evaluate.floors import default_floors
from negflax.evaluate.protocol import Scorer
from negflax.evaluate.scoreboard import MODEL, Result, evaluate_scorers
from negflax.evaluate.scorer import model_scorer
from negflax.evaluate.tabulate import format_table, summary_rows
from negflax.train.loop import warm_up_steps
from negflax.train.restore import Trained
from negflax.train.writers import read_metrics

SCORERS = (MODEL, "markov", "popularity", "random")


def evaluate_trained(
    trained: Trained, split: str, workdir: str | Path, sequences: Sequences | None = None
) -> Result:
    """Ranks the whole catalogue for every user of the split, model and floors alike.

    Args:
      trained: the checkpoint.
      split: `valid` or `test`.
      workdir: of the run (holds the prepared data).
      sequences: the run's data, if it is at hand; else it is opened anew with the run's vocabulary.
    """
    config = trained.config
    if sequences is None:
        sequences = open_sequences(config, workdir, trained.catalogue)
    floors = default_floors(sequences, config.train.splits, config.eval.seed)
    return _evaluate(trained, floors, split, sequences)


def evaluate_model(trained: Trained, split: str, sequences: Sequences) -> Result:
    """The model alone, for checkpoints that are compared with each other."""
    return _evaluate(trained, {}, split, sequences)


def _evaluate(
    trained: Trained, floors: dict[str, Scorer], split: str, sequences: Sequences
) -> Result:
    config = trained.config.eval
    check_list_lengths(config.ks, trained.catalogue)
    check_finite(trained)
    scorer = model_scorer(trained.model, trained.state, sequences, trained.mesh, config.history)
    result = evaluate_scorers({MODEL: scorer} | floors, sequences, config, split)
    facts = circumstances(sequences, result.requests, split)
    return dataclasses.replace(result, metrics=result.metrics | facts)


def headline_keys(ks: tuple[int, ...]) -> list[str]:
    """Columns of the result table, at the first K."""
    k = ks[0]
    return [f"hr_p@{k}", f"ndcg_p@{k}", f"hr_n@{k}", f"delta@{k}", f"anti_ndcg@{k}"]


def result_table(result: Result, ks: tuple[int, ...]) -> str:
    """The headline figures as text, seen items masked."""
    return format_table(summary_rows(result.metrics, SCORERS, headline_keys(ks)))


def steps_table(evaluations: dict[int, dict[str, Any]], best: int | None, config: Config) -> str:
    """The headline figures of a run's checkpoints as text."""
    keys = headline_keys(config.eval.ks)

    def note(step: int, figures: dict[str, Any]) -> str:
        if "error" in figures:
            return "unusable"
        if step == best:
            return "best"
        return "warm-up" if step <= warm_up_steps(config) else ""

    return format_table(
        [
            {"step": str(step), **{key: figures.get(key) for key in keys}, "": note(step, figures)}
            for step, figures in evaluations.items()
        ]
    )


def write_page(
    path: Path, trained: Trained, result: Result, split: str, workdir: str | Path
) -> Path:
    """One self-contained HTML page: tables, learning curves, floors and the HR_p/HR_n plane."""
    config, metrics, k = trained.config, result.metrics, trained.config.eval.ks[0]
    head = headline_keys(config.eval.ks)
    others = [f"coverage@{k}", f"avoidance@{k}", f"recall@{k}", "auc", "weighted_loss"]
    sections: list[report.Section] = [
        report.Text("What this is", _summary(trained, result, split)),
        report.Table("Ranking, seen items masked", summary_rows(metrics, SCORERS, head), _NOTE),
        report.Figure(
            "Against the floors", plots.floors_chart(metrics, SCORERS, [head[1], head[0], head[2]])
        ),
        report.Figure(
            "Positives and negatives in the list",
            plots.front_chart(_points(metrics, k), k),
            "Both grow with exposure, so HR_n is read at equal HR_p.",
        ),
        report.Table("Further metrics, seen items masked", summary_rows(metrics, SCORERS, others)),
        report.Table("Seen items kept", summary_rows(metrics, SCORERS, head, masked=False)),
    ]
    if lines := read_metrics(Path(workdir)):
        sections.insert(3, report.Figure("Training", plots.learning_curves(lines)))
    return report.write_report(
        path, f"{config.name}: {split} period, step {trained.step}", sections
    )


_NOTE = (
    "Full-catalogue ranking; brackets are 95 % user-clustered bootstrap intervals. hr_p, ndcg_p: "
    "higher is better; hr_n, anti_ndcg: lower is better; delta = hr_p − hr_n."
)


def _summary(trained: Trained, result: Result, split: str) -> str:
    config, metrics = trained.config, result.metrics
    return (
        f"Checkpoint of step {trained.step} of {config.name!r}: objective {config.loss.objective}, "
        f"{config.loss.candidates} candidates, data {config.data.source}.\n\n"
        f"{metrics['users']:,} users with {metrics['positives']:,} positives and "
        f"{metrics['negatives']:,} negatives in the {split} period are asked once, at its start, "
        f"with all {trained.catalogue.num_rows - 1:,} items ranked."
    )


def _points(metrics: dict[str, Any], k: int) -> dict[str, list[float]]:
    points = {}
    for name in SCORERS:
        prefix = "" if name == MODEL else f"{name}/"
        ends = (f"hr_p@{k}", f"hr_n@{k}", f"hr_p@{k}_low", f"hr_p@{k}_high", f"hr_n@{k}_low",
                f"hr_n@{k}_high")  # fmt: skip
        values = [metrics.get(prefix + end) for end in ends]
        if all(v is not None for v in values):
            points[name] = values
    return points
