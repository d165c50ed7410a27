"""The report of one or several runs: a page of tables and charts with intervals and n."""

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
from negflax.evaluate.report.examples import CANDIDATES, Examples, examples
from negflax.evaluate.report.tabulate import count_row, repeated, repeated_note, summary_rows
from negflax.evaluate.scoreboard import MODEL, Result, metric_key
from negflax.evaluate.scorer import trained_scorer
from negflax.train.goodput_log import Account, account
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
    """The data of one run that the page shows.

    Attributes:
      name: name of the run.
      trained: checkpoint.
      result: evaluation of the checkpoint.
      records: lines of the metrics log.
      calibration: bins by sign, see calibration.py.
      examples: example users, and what a dislike does on average.
    """

    name: str
    trained: Trained
    result: Result
    records: list[dict[str, Any]]
    calibration: dict[str, list[Bin]]
    examples: Examples
    time: Account = Account({}, 0)


def look_at(
    name: str,
    trained: Trained,
    result: Result,
    sequences: Sequences,
    split: str,
    workdir: str | Path,
) -> Run:
    """Computes calibration and examples of a checkpoint, on config.eval.valid_users users."""
    config = trained.config.eval
    scorer = trained_scorer(trained, sequences)
    sample = build_queries(sequences, split, config.valid_users, config.seed)
    bins = calibrate(scorer, sample, config)
    some = examples(trained, sample, sequences)
    records, time = read_metrics(Path(workdir)), account(workdir)
    return Run(name, trained, result, records, bins, some, time)


def headline_keys(ks: Sequence[int]) -> list[str]:
    """Returns the columns of the first table, at the first K."""
    return [f"{name}@{ks[0]}" for name in HEADLINE]


def write_page(
    path: str | Path, split: str, runs: Sequence[Run], more: Sequence[html.Section] = ()
) -> Path:
    """Writes a self-contained HTML page and returns its path.

    Args:
      path: path of the file.
      split: period that was evaluated.
      runs: at least one run, all with the same list lengths; baselines are those of the first.
      more: sections to add after the first table.
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
        html.Text("About this evaluation", "\n\n".join(_summary(run, split) for run in runs)),
        *_curves(runs),
        html.Figure(
            "Comparison with the baselines",
            plots.baseline_charts(
                first.result.metrics, [x for x in _scorers(first) if x not in same], head[:3]
            ),
            "Seen items masked, 95 % intervals; n is the number of queries.",
        ),
        *_front(runs, k),
        html.Figure(
            "Results by subset",
            [
                plots.strata_chart(
                    title, parts, {run.name: run.result.metrics for run in runs}, name, k
                )
                for title, parts in STRATA.items()
                for name in (("hr_n",) if "negative" in title else ("hr_p", "hr_n"))
            ],
            "Terciles of the catalogue's items by training events, and of the users by length of "
            "history. Related: an unseen item of a creator or cluster that got negative feedback "
            "before. same_item is scored with seen items kept, all others with seen items masked.",
        ),
        *_calibration(runs),
        *_examples(runs, slice(1, None), "Example users"),
        html.Table("Further metrics, seen items masked", _rows(runs, others)),
        html.Table("Seen items kept", _rows(runs, head, masked=False)),
        *_time(runs),
    ]
    return html.write_report(path, f"{split.capitalize()} period: {steps}", sections)


_NOTE = (
    "Full-catalogue ranking. ± is half the width of the 95 % user-clustered bootstrap interval; n "
    "is the number of queries for which a metric is defined. hr_p is the share of lists with a "
    "liked item, hr_n that of lists with a disliked item; ndcg_p and anti_ndcg also count how high "
    "these items are in the list; delta = hr_p − hr_n. Higher hr_p, ndcg_p and delta are better; "
    "lower hr_n and anti_ndcg are better."
)
_EXAMPLES_NOTE = (
    "Newest events first. Both lists come from the same history; only the dislike bit of its last "
    "event differs. A related item shares a creator or a cluster with that event's item. “Later” "
    "means feedback in the evaluated period, which the model has not seen."
)
_CHOSEN = (
    f" This user was chosen among {CANDIDATES} random users for a large change of the list, and "
    "is not typical. The example users further down were drawn at random."
)


def _summary(run: Run, split: str) -> str:
    config, metrics = run.trained.config, run.result.metrics
    return (
        f"{run.name}: checkpoint of step {run.trained.step}, objective {config.loss.objective}, "
        f"data {config.data.source!r}, {run.trained.catalogue.num_rows - 1:,} items. The {split} "
        f"period has {metrics['users']:,} queries with {metrics['positives']:,} positives and "
        f"{metrics['negatives']:,} negatives on items that the user had not seen before. Another "
        f"{metrics['seen_positives']:,} positives and {metrics['seen_negatives']:,} negatives are "
        f"on seen items, and count only where seen items are kept. "
        f"{metrics['users_without_history']:,} queries have no history. "
        f"{metrics['unknown_positives']:,} positives and {metrics['unknown_negatives']:,} "
        "negatives were left out, as their items are unknown to the run."
    )


def _scorers(run: Run) -> list[str]:
    return [name for masked, name in run.result.values if masked]


def _note(same: Mapping[str, str]) -> str:
    return " ".join(filter(None, [_NOTE, repeated_note(same)]))


def _opening(runs: Sequence[Run], key: str) -> list[html.Section]:
    """Returns the verdict of each run, with a chart of the first run and its baselines."""
    first, metrics = runs[0], runs[0].result.metrics
    verdicts = [run.result.metrics.get("verdict", "") for run in runs]
    names = [
        name
        for name in _scorers(first)
        if name not in baseline_names("on_model") and metrics.get(metric_key(key, name)) is not None
    ]
    names.sort(key=lambda name: metrics[metric_key(key, name)], reverse=True)
    if not names or not any(verdicts):
        text = "\n\n".join(filter(None, verdicts)) or "No baselines were evaluated."
        return [html.Text("Verdict", text)]
    named = [
        f"{run.name}: {text}" if len(runs) > 1 else text
        for run, text in zip(runs, verdicts, strict=True)
        if text
    ]
    body = "\n\n".join(part for text in named for part in _sentences(text))
    [chart] = plots.baseline_charts(metrics, names, [key])
    caption = (
        f"{key} is 1 if the items that users liked later are at the top of their lists, and 0 if "
        "they are not in the lists. Lines are 95 % intervals."
    )
    return [html.Opening("Verdict", body, chart, caption)]


def _sentences(text: str) -> list[str]:
    """Splits the verdict into paragraphs: result, advice, warning."""
    return re.split(
        r" (?=Its lists|To try|Warning|An item-based|The last item|The model has)", text
    )


def _rows(
    runs: Sequence[Run], keys: Sequence[str], masked: bool = True, skip: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Returns rows of the models, of the first run's baselines except `skip`, and of n."""
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
            "Loss is the mean over the labels of a step, which training minimises. Its positive "
            "term is −log p of the liked items, where p is the softmax over the catalogue. Its "
            "negative term penalises a large p of disliked items; it is small, as p of a single "
            "item is small. Both are weighted. The loss should fall; its level cannot be compared "
            "between settings. Validation metrics are computed on "
            f"{run.trained.config.eval.valid_users or 'all'} users.",
        )
        for run in runs
        if run.records
    ]


def _time(runs: Sequence[Run]) -> list[html.Section]:
    shown = [run for run in runs if run.time.seconds]
    if not shown:
        return []
    charts = [plots.time_chart(_title("Seconds", run, runs), run.time.seconds) for run in shown]
    note = "; ".join(
        f"{run.name}: goodput {run.time.goodput:.0%} over {run.time.starts} start(s)"
        for run in shown
    )
    return [
        html.Figure(
            "Where the training time went",
            charts,
            f"{note}. Goodput is the share of steps that were kept; `lost` are steps that a "
            "restart trained again, `wait` is time in which the devices waited for data.",
        )
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
        "If a user liked (disliked) n items later, each of them counts 1 / n. On the diagonal, p "
        "is the probability that an item is the next liked one; negatives should lie below it. In "
        "the table, n is the number of judged items in the bin, on a sample of users; seen items "
        "are included."
    )
    return [
        html.Figure("Calibration of p", charts, caption),
        html.Table("Calibration of p, in figures", rows),
    ]


def _examples(runs: Sequence[Run], which: slice, title: str) -> list[html.Section]:
    blind = " This model does not use dislikes as an input, so the two lists are equal."
    return [
        html.Examples(
            _title(title, run, runs),
            run.examples.users[which],
            _EXAMPLES_NOTE
            + ("" if which.start else f"{_CHOSEN} {run.examples.sentence}")
            + ("" if _reads_dislikes(run.trained) else blind),
        )
        for run in runs
        if run.examples.users[which]
    ]


def _reads_dislikes(trained: Trained) -> bool:
    return "dislike" in trained.config.model.features or trained.calibration is not None


def _front(runs: Sequence[Run], k: int) -> list[html.Section]:
    points, metrics = _points(runs, k), runs[0].result.metrics
    if not points:  # no positive or no negative in the period
        return []
    caption = (
        "Both grow with exposure, so compare HR_n at equal HR_p. There are "
        f"{metrics[f'hr_p@{k}_n']:,} queries with positives and {metrics[f'hr_n@{k}_n']:,} with "
        "negatives."
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
