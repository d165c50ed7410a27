"""Evaluation of a checkpoint together with the baselines, and its table and verdict."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping
from collections.abc import Sequence as Several
from pathlib import Path
from typing import Any

import numpy as np

from negflax.config import Config
from negflax.data import Sequences, open_sequences
from negflax.evaluate.baselines import baseline_names
from negflax.evaluate.baselines.item_based import MAX_ITEMS, item_baselines
from negflax.evaluate.baselines.markov import default_baselines
from negflax.evaluate.baselines.personal_scores import (
    PERSONAL,
    personal_scorers,
)
from negflax.evaluate.baselines.popularity import cached
from negflax.evaluate.baselines.rate_adjusted import model_baselines
from negflax.evaluate.circumstances import check_list_lengths, circumstances
from negflax.evaluate.report.run_page import headline_keys
from negflax.evaluate.report.tabulate import (
    count_row,
    format_table,
    repeated,
    repeated_note,
    summary_rows,
)
from negflax.evaluate.report.verdict import judge
from negflax.evaluate.scoreboard import MODEL, Result, evaluate_scorers, metric_key
from negflax.evaluate.scorer import trained_scorer
from negflax.serve.scoring import check_finite
from negflax.train.loop import warm_up_steps
from negflax.train.restore import Trained

SCORERS = (MODEL, *baseline_names())
SIGNS = {"hr_p": 1, "hr_n": -1}  # higher is better, lower is better


def evaluate_trained(
    trained: Trained, split: str, workdir: str | Path, sequences: Sequences | None = None
) -> Result:
    """Evaluates the model and the baselines on the whole catalogue for every query of the split.

    Args:
      trained: the checkpoint.
      split: `valid` or `test`.
      workdir: folder of the run, which holds the prepared data.
      sequences: data of the run; None: opened with the vocabulary of the run.
    """
    config = trained.config
    if sequences is None:
        sequences = open_sequences(config, workdir, trained.catalogue)
    return _evaluate(trained, split, sequences, baselines=True)


def evaluate_model(trained: Trained, split: str, sequences: Sequences) -> Result:
    """Evaluates the model without baselines, to compare checkpoints."""
    return _evaluate(trained, split, sequences, baselines=False)


def _evaluate(trained: Trained, split: str, sequences: Sequences, baselines: bool) -> Result:
    config, splits = trained.config.eval, trained.config.train.splits
    check_list_lengths(config.ks, trained.catalogue)
    check_finite(trained)
    model = cached(trained_scorer(trained, sequences))
    scorers, facts = {MODEL: model}, {}
    if baselines:
        on_model, facts = model_baselines(model, sequences, splits, config)
        on_items, settings = item_baselines(sequences, splits, config)
        scorers |= on_model | on_items
        scorers |= default_baselines(sequences, splits, config.seed, config.negative_popularity)
        facts |= settings
    result = evaluate_scorers(scorers, sequences, config, split)
    facts |= circumstances(sequences, result.queries, split)
    metrics = result.metrics | facts
    if baselines:
        verdict = judge(metrics, config.ks[0])
        metrics |= {
            "verdict": verdict.text,
            "verdict/outcome": verdict.outcome,
            "verdict/baseline": verdict.baseline,
        }
    return dataclasses.replace(result, metrics=metrics)


def evaluate_personal(
    trained: Trained, split: str, sequences: Sequences, others: Mapping[str, Trained] | None = None
) -> Result:
    """Compares the model with baselines that react to dislikes and train nothing.

    See negflax/evaluate/baselines/personal_scores.py; `model` is without its calibration.

    Args:
      trained: the run that the baselines build on.
      split: `valid` or `test`.
      sequences: data of the run.
      others: further runs by name, without their calibration.
    """
    config = trained.config.eval
    check_list_lengths(config.ks, trained.catalogue)
    check_finite(trained)
    scorers, facts = personal_scorers(trained, sequences)
    for name, other in (others or {}).items():
        check_finite(other)
        scorers[name] = trained_scorer(other, sequences, calibrated=False)
    result = evaluate_scorers(scorers, sequences, config, split)
    return dataclasses.replace(result, metrics=result.metrics | facts)


def personal_verdict(result: Result, labels: Several[str], k: int) -> str:
    """Returns a sentence: whether dislikes as labels beat baselines that train nothing.

    They do if HR_p is no lower and HR_n no higher, by the means, and not both are equal.

    Args:
      result: of `evaluate_personal`.
      labels: scorers that are trained on dislikes as labels.
      k: list length.
    """
    names = dict.fromkeys(name for _, name in result.values)
    found = {
        name: tuple(
            sign * result.metrics[metric_key(f"{x}@{k}", name)] for x, sign in SIGNS.items()
        )
        for name in names
    }
    answers = [
        f"{label} against {name}: "
        + ("yes" if all(np.greater_equal(found[label], one)) and found[label] != one else "no")
        for label in labels
        for name, one in found.items()
        if name in PERSONAL
    ]
    return (
        "Do dislikes as labels beat baselines that train nothing (no lower HR_p and no higher "
        f"HR_n@{k}, by the means)? {'; '.join(answers)}."
    ) * bool(answers)


def result_table(result: Result, ks: tuple[int, ...]) -> str:
    """Returns the headline figures with seen items masked as text, with notes below."""
    keys, metrics = headline_keys(ks), result.metrics
    same = repeated(metrics, SCORERS, keys)
    shown = [name for name in SCORERS if name not in same and metric_key(keys[0], name) in metrics]
    table = format_table([*summary_rows(metrics, shown, keys), count_row(metrics, keys)])
    notes = [
        "±: half the width of the 95 % interval. n: number of queries.",
        repeated_note(same),
        left_out_note(metrics),
    ]
    return "\n".join([table, *filter(None, notes)])


def verdict_text(result: Result) -> str:
    """Returns the verdict wrapped to the width of the table; programs print it last."""
    return "\n" + textwrap.fill(result.metrics["verdict"], 100, break_on_hyphens=False)


def left_out_note(metrics: Mapping[str, Any]) -> str:
    """Returns a sentence about item-to-item baselines that are missing or not tuned."""
    tuned = metrics.get("item_baselines/tuned")
    *names, last = baseline_names("item_based")
    named = f"{', '.join(names)} and {last}"
    if tuned is None:
        return f"{named} are left out, as the catalogue has more than {MAX_ITEMS:,} items."
    if tuned:
        return ""
    return f"{named} have their default settings, as there is no validation period."


def steps_table(evaluations: dict[int, dict[str, Any]], best: int | None, config: Config) -> str:
    """Returns the headline figures of a run's checkpoints as text."""
    keys = headline_keys(config.eval.ks)

    def note(step: int, figures: dict[str, Any]) -> str:
        if "error" in figures:
            return "unusable"
        if step == best:
            return "best"
        return "warm-up" if step <= warm_up_steps(config) else ""

    rows = []
    for step, figures in evaluations.items():
        row = summary_rows(figures, [MODEL], keys)[0] | {"": note(step, figures)}
        rows.append({"step": str(step)} | {k: v for k, v in row.items() if k != "scorer"})
    return format_table(rows)
