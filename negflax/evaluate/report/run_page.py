"""The report of one or several runs: a page of tables and charts, intervals and n everywhere."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from negflax.data import Sequences
from negflax.evaluate.baselines import baseline_names
from negflax.evaluate.calibration import Bin, calibrate
from negflax.evaluate.protocol import build_queries
from negflax.evaluate.report import html, plots
from negflax.evaluate.report.examples import CANDIDATES, Example, examples
from negflax.evaluate.report.tabulate import count_row, repeated, repeated_note, summary_rows
from negflax.evaluate.scoreboard import MODEL, Result, metric_key
from negflax.evaluate.scorer import model_scorer
from negflax.train.restore import Trained
from negflax.train.writers import read_metrics

HEADLINE = ("hr_p", "hr_n", "ndcg_p", "delta", "anti_ndcg")  # the first two fit on a phone
STRATA = {
    "by item popularity": ["item_popularity=low", "item_popularity=middle", "item_popularity=high"],
    "by history length": ["history=short", "history=middle", "history=long"],
    "by kind of negative": ["kept/negative=same_item", "negative=related", "negative=unrelated"],
}


@dataclasses.dataclass(frozen=True)
class Run:
    """What the page shows of a run.

    Attributes:
      name: of the run.
      trained: the checkpoint.
      result: its evaluation.
      records: lines of its metrics log.
      calibration: bins by sign, see calibration.py.
      examples: users to look at.
    """

    name: str
    trained: Trained
    result: Result
    records: list[dict[str, Any]]
    calibration: dict[str, list[Bin]]
    examples: list[Example]


def look_at(
    name: str,
    trained: Trained,
    result: Result,
    sequences: Sequences,
    split: str,
    workdir: str | Path,
) -> Run:
    """Calibration (on config.eval.valid_users users) and examples of an evaluated checkpoint."""
    config = trained.config.eval
    scorer = model_scorer(trained.model, trained.state, sequences, trained.mesh, config.history)
    sample = build_queries(sequences, split, config.valid_users, config.seed)
    bins = calibrate(scorer, sample, config)
    some = examples(trained, sample, sequences)
    return Run(name, trained, result, read_metrics(Path(workdir)), bins, some)


def headline_keys(ks: Sequence[int]) -> list[str]:
    """Columns of the first table, at the first K."""
    return [f"{name}@{ks[0]}" for name in HEADLINE]


def write_page(
    path: str | Path, split: str, runs: Sequence[Run], more: Sequence[html.Section] = ()
) -> Path:
    """One self-contained HTML page.

    Args:
      path: of the file.
      split: the period that was scored.
      runs: at least one, evaluated with the same list lengths; the baselines are those of the
        first.
      more: sections that follow the first table.
    """
    first = runs[0]
    config, k = first.trained.config, first.trained.config.eval.ks[0]
    head = headline_keys(config.eval.ks)
    others = [f"coverage@{k}", f"avoidance@{k}", f"recall@{k}", "auc", "weighted_loss"]
    steps = ", ".join(f"{run.name} step {run.trained.step}" for run in runs)
    same = repeated(first.result.metrics, _scorers(first), head)
    sections = [
        *_opening(runs, head[2]),
        *_examples(runs, slice(0, 1), "One user: a list before and after a dislike"),
        html.Table("Ranking, seen items masked", _rows(runs, head, skip=same), _note(same)),
        *more,
        html.Text("What this is", "\n\n".join(_summary(run, split) for run in runs)),
        *_curves(runs),
        html.Figure(
            "Against the baselines",
            plots.baseline_charts(
                first.result.metrics, [x for x in _scorers(first) if x not in same], head[:3]
            ),
            "Seen items masked, 95 % intervals; n is the number of queries.",
        ),
        *_front(runs, k),
        html.Figure(
            "Where it holds",
            [
                plots.strata_chart(
                    title, parts, {run.name: run.result.metrics for run in runs}, name, k
                )
                for title, parts in STRATA.items()
                for name in (("hr_n",) if "negative" in title else ("hr_p", "hr_n"))
            ],
            "Terciles of the catalogue's items by training events, and of the users by history. "
            "Related: an unseen item of a creator or cluster that got negative feedback before. "
            "same_item is scored with seen items kept, the rest with seen items masked.",
        ),
        *_calibration(runs),
        *_examples(runs, slice(1, None), "Example users"),
        html.Table("Further metrics, seen items masked", _rows(runs, others)),
        html.Table("Seen items kept", _rows(runs, head, masked=False)),
    ]
    return html.write_report(path, f"{split.capitalize()} period: {steps}", sections)


_NOTE = (
    "Full-catalogue ranking; ± is half the 95 % user-clustered bootstrap interval, n the queries "
    "for which a metric is defined. hr_p: users with a liked item in their list, hr_n: with a "
    "disliked one; ndcg_p, anti_ndcg: the same with places; delta = hr_p − hr_n. hr_p, ndcg_p: "
    "higher is better; hr_n, anti_ndcg: lower."
)
_EXAMPLES_NOTE = (
    "Newest events first. Both lists come from the same history; only the dislike bit of its last "
    "event differs. A related item shares a creator or a cluster with that event's item. “Later” "
    "is the feedback of the scored period, which the model has not seen."
)
_CHOSEN = (
    f" Of {CANDIDATES} users drawn at random, one whose list changes most: not an average "
    "user. Further down are users as they were drawn."
)


def _summary(run: Run, split: str) -> str:
    config, metrics = run.trained.config, run.result.metrics
    return (
        f"{run.name}: checkpoint of step {run.trained.step}, objective {config.loss.objective}, "
        f"data {config.data.source!r}, {run.trained.catalogue.num_rows - 1:,} items. The {split} "
        f"period has {metrics['users']:,} queries with {metrics['positives']:,} positives and "
        f"{metrics['negatives']:,} negatives that the user had not seen before; the "
        f"{metrics['seen_positives']:,} and {metrics['seen_negatives']:,} that they had are judged "
        f"only where seen items are kept. Queries without a history: "
        f"{metrics['users_without_history']:,}. On items unknown to the run, left out: "
        f"{metrics['unknown_positives']:,} positives and {metrics['unknown_negatives']:,} "
        "negatives."
    )


def _scorers(run: Run) -> list[str]:
    return [name for masked, name in run.result.values if masked]


def _note(same: Mapping[str, str]) -> str:
    return " ".join(filter(None, [_NOTE, repeated_note(same)]))


def _opening(runs: Sequence[Run], key: str) -> list[html.Section]:
    """The verdict of each run, and a chart of the first one beside its baselines, best on top."""
    first, metrics = runs[0], runs[0].result.metrics
    verdicts = [run.result.metrics.get("verdict", "") for run in runs]
    names = [
        name
        for name in _scorers(first)
        if name not in baseline_names("on_model") and metrics.get(metric_key(key, name)) is not None
    ]
    names.sort(key=lambda name: metrics[metric_key(key, name)], reverse=True)
    if not names or not any(verdicts):
        return [html.Text("Verdict", "\n\n".join(filter(None, verdicts)) or "No baselines.")]
    told = [
        f"{run.name}: {text}" if len(runs) > 1 else text
        for run, text in zip(runs, verdicts, strict=True)
        if text
    ]
    body = "\n\n".join(part for text in told for part in _sentences(text))
    [chart] = plots.baseline_charts(metrics, names, [key])
    caption = (
        f"{key}: how near the top of a user's list the later liked items are, from 0 to 1. Lines "
        "are 95 % intervals."
    )
    return [html.Opening("Verdict", body, chart, caption)]


def _sentences(text: str) -> list[str]:
    """The verdict's paragraphs: what was found, what to try, what to beware of."""
    return re.split(
        r" (?=Its lists|To try|Warning|An item-based|The last item|The model has)", text
    )


def _rows(
    runs: Sequence[Run], keys: Sequence[str], masked: bool = True, skip: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The models, then the baselines of the first run but `skip`, then n."""
    first = runs[0]
    named = [(run, MODEL) for run in runs]
    named += [(first, name) for name in _scorers(first) if name not in (MODEL, *skip)]
    rows = [
        summary_rows(run.result.metrics, [name], keys, masked)[0]
        | ({"scorer": run.name} if name == MODEL and len(runs) > 1 else {})
        for run, name in named
    ]
    return [*rows, count_row(first.result.metrics, keys, masked)]


def _curves(runs: Sequence[Run]) -> list[html.Section]:
    return [
        html.Figure(
            _title("Training", run, runs),
            plots.learning_curves(run.records),
            "Loss: what training makes small, the mean over the labels of a step. Its positive "
            "term is −log p of the liked items, p the softmax over the catalogue; its negative "
            "term makes disliked items unlikely, and is small because single items are; weights "
            "may add to both. Falling is good; levels of different settings do not compare. "
            "Validation: on "
            f"{run.trained.config.eval.valid_users or 'all'} users at most.",
        )
        for run in runs
        if run.records
    ]


def _calibration(runs: Sequence[Run]) -> list[html.Section]:
    shown = [run for run in runs if any(run.calibration.values())]
    if not shown:
        return []
    charts = [
        plots.calibration_chart(_title("p of an item", run, runs), run.calibration) for run in shown
    ]
    rows = [
        ({"run": run.name} if len(runs) > 1 else {})
        | {
            "sign": sign,
            "p from": f"{one.edge:.0e}",
            "predicted": f"{one.predicted:.2e}",
            "observed": f"{one.observed:.2e} [{one.low:.2e}, {one.high:.2e}]",
            "n": one.n,
        }
        for run in shown
        for sign, bins in run.calibration.items()
        for one in bins
    ]
    caption = (
        "Of each user's later liked (disliked) items, each counts 1 / their number. On the line, p "
        "is the chance that an item is the next liked one; negatives belong below it. n in the "
        "table: judged items of the bin, on a sample of users; seen items count as well."
    )
    return [
        html.Figure("Calibration of p", charts, caption),
        html.Table("Calibration of p, in figures", rows),
    ]


def _examples(runs: Sequence[Run], which: slice, title: str) -> list[html.Section]:
    blind = " This model does not read dislikes, so the two lists are the same."
    return [
        html.Examples(
            _title(title, run, runs),
            run.examples[which],
            _EXAMPLES_NOTE
            + ("" if which.start else _CHOSEN)
            + ("" if "dislike" in run.trained.config.model.features else blind),
        )
        for run in runs
        if run.examples[which]
    ]


def _front(runs: Sequence[Run], k: int) -> list[html.Section]:
    points, metrics = _points(runs, k), runs[0].result.metrics
    if not points:  # no positive or no negative in the period
        return []
    caption = (
        f"Both grow with exposure, so HR_n is read at equal HR_p. n: {metrics[f'hr_p@{k}_n']:,} "
        f"queries with positives, {metrics[f'hr_n@{k}_n']:,} with negatives."
    )
    chart = plots.front_chart(points, k)
    return [html.Figure("Positives and negatives in the list", [chart], caption)]


def _points(runs: Sequence[Run], k: int) -> dict[str, list[float]]:
    ends = [
        f"{name}@{k}{end}"
        for name, end in (
            ("hr_p", ""),
            ("hr_n", ""),
            ("hr_p", "_low"),
            ("hr_p", "_high"),
            ("hr_n", "_low"),
            ("hr_n", "_high"),
        )
    ]
    named = {run.name if len(runs) > 1 else MODEL: (run, MODEL) for run in runs}
    named |= {name: (runs[0], name) for name in _scorers(runs[0]) if name != MODEL}
    points = {
        label: [run.result.metrics.get(metric_key(end, name)) for end in ends]
        for label, (run, name) in named.items()
    }
    return {label: point for label, point in points.items() if None not in point}


def _title(title: str, run: Run, runs: Sequence[Run]) -> str:
    return title if len(runs) == 1 else f"{title}: {run.name}"
