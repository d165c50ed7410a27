"""The page of `launch.inspect_data`: tables and plots of the data as a config interprets them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from negflax.data import Sequences
from negflax.evaluate.protocol import EvaluationError, build_queries
from negflax.evaluate.report import html, plots
from negflax.evaluate.report.html import INK
from negflax.evaluate.slices import STRATA, negative_strata

COLOURS = {"positive": plots.COLOURS[2], "negative": plots.COLOURS[1], "none": plots.QUIET}


def strata(sequences: Sequences) -> list[dict[str, Any]]:
    """Returns a row for each held-out period, with the shares of its negatives by stratum.

    `same_item`: the item is in the history. `related`: it is not, but its creator or a cluster got
    negative feedback in the history. `unrelated`: all others (docs/method.md §5.4). An item counts
    once per user.
    """
    rows = []
    for split in ("valid", "test"):
        try:
            queries = build_queries(sequences, split)
        except EvaluationError:  # the period has no labels
            continue
        kind_J = negative_strata(sequences, queries)[~queries.judged_positive_J]
        count = np.bincount(kind_J, minlength=len(STRATA))
        shares = count / max(1, count.sum())
        rows.append(
            {"split": split, "negatives": int(count.sum())}
            | dict(zip(STRATA, shares.tolist(), strict=True))
        )
    return rows


def tables(figures: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Returns tables by title, in the order in which they are printed."""
    conflicts = [
        {"rules of both signs match, and": name.replace("_", " "), "events": count}
        for name, count in figures["conflicts"].items()
    ]
    size = {key: figures[key] for key in ("source", "users", "items", "events")}
    dwell = [
        {"dwell": _range(row), **{kind: row[kind] for kind in COLOURS}} for row in figures["dwell"]
    ]
    ratios = [
        {"duration": _range(row), "events": sum(row[kind] for kind in COLOURS)}
        | {key: row[key] for key in ("p10", "p25", "p50", "p75", "p90", *COLOURS)}
        for row in figures["watch_ratio"]
    ]
    return {
        "Size": [size],
        "Periods": figures["splits"],
        "Density": [{"figure": key, "value": value} for key, value in figures["density"].items()],
        "Rules": figures["rules"],
        "Conflicts": conflicts,
        "Held-out negatives by stratum": figures["strata"],
        "Nulls": figures["nulls"],
        "Dwell": [row for row in dwell if any(row[kind] for kind in COLOURS)],
        "Watch ratio by duration": ratios,
    }


def write_page(path: str | os.PathLike[str], name: str, figures: Mapping[str, Any]) -> Path:
    """Writes a self-contained HTML page and returns its path."""
    found = tables(figures)
    labels, watching = [label_mix(figures["splits"])], []
    if figures["strata"]:
        labels.append(strata_chart(figures["strata"]))
    if found["Dwell"]:
        watching.append(dwell_chart(figures["dwell"]))
    if any(row["p50"] is not None for row in figures["watch_ratio"]):
        watching.append(ratio_chart(figures["watch_ratio"]))
    sections: list[html.Section] = [
        _warnings(figures),
        html.Figure("Labels", labels, _STRATA if figures["strata"] else ""),
        *(html.Table(title, found[title], _NOTES[title]) for title in _NOTES),
        html.Figure("Unknown feedback", [null_chart(figures["nulls"])]),
        html.Table("Density", found["Density"]),
        html.Table("Nulls and ranges", found["Nulls"]),
    ]
    if watching:
        sections.insert(-3, html.Figure("Dwell and watch ratio", watching, _WATCHING))
    return html.write_report(path, f"{name}: the data", sections)


_NOTES = {
    "Periods": "Times are UTC. Events on items that do not occur in training are left out.",
    "Rules": "Number of events that each rule matches, before conflicts are resolved.",
    "Conflicts": "An explicit negative overrides a positive. Otherwise the later feedback wins, or "
    "the positive one if the log does not say which is later.",
}
_STRATA = (
    "Strata of the held-out negatives. same_item: the item is in the user's history before the "
    "period. related: it is not, but its creator or a cluster got negative feedback there. "
    "unrelated: all others. Of the unseen items, the history gives a reason to avoid only the "
    "related ones."
)
_WATCHING = (
    "Dwell times are in half octaves from 0.5 s; the first bar is exactly 0 s. Watch ratio is the "
    "dwell time divided by the duration; shown are the median, the middle half and the middle 80 %."
)


def _warnings(figures: Mapping[str, Any]) -> html.Section:
    size = (
        f"{figures['events']:,} events of {figures['users']:,} users on {figures['items']:,} items "
        f"from {figures['source']}."
    )
    found = figures["warnings"]
    if not found:
        return html.Text("Warnings", f"{size}\n\nNo problems found.")
    lines = []
    for remedy, alike in itertools.groupby(found, key=lambda one: one["remedy"]):
        seen = "; ".join(f"{one['about']}: {one['what']}" for one in alike)
        lines.append(f"{seen}. → {remedy}.".replace("`", ""))
    return html.Text("Warnings", "\n\n".join([size, *lines]))


def label_mix(splits: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws the shares of positive, negative and unlabelled events of each period."""
    keys = dict(zip(COLOURS, ("positives", "negatives", "unlabelled"), strict=True))
    parts = {
        row["split"]: {kind: row[key] / row["events"] for kind, key in keys.items()}
        for row in splits
        if row["events"]
    }
    return _shares("Label mix by period", parts, COLOURS)


def strata_chart(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws the shares of the strata of the held-out negatives, for each period."""
    colours = (plots.COLOURS[5], plots.COLOURS[4], plots.QUIET)
    parts = {row["split"]: {name: row[name] for name in STRATA} for row in rows}
    title = "Held-out negatives by stratum"
    return _shares(title, parts, dict(zip(STRATA, colours, strict=True)))


def _shares(
    title: str, parts: Mapping[str, Mapping[str, float]], colours: Mapping[str, str]
) -> Figure:
    """Draws a horizontal bar of shares for each name, from top to bottom."""
    figure, axis = _rows_chart(title, list(parts), legend=True)
    left = np.zeros(len(parts))
    for part, colour in colours.items():
        share = np.array([row[part] for row in parts.values()])
        axis.barh(_places(len(parts)), share, left=left, color=colour, height=0.6, label=part)
        for place, start, width in zip(_places(len(parts)), left, share, strict=True):
            if width > 0.08:
                axis.text(
                    start + width / 2,
                    place,
                    f"{width:.0%}",
                    ha="center",
                    va="center",
                    color=INK,
                    fontsize=8,
                )
        left = left + share
    axis.set_xlim(0, 1)
    axis.xaxis.set_major_formatter("{x:.0%}")
    _legend(figure)
    return figure


def dwell_chart(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws a stacked histogram of dwell times by label."""
    figure, axis = plots.new_chart(height=2.8)
    bottom = np.zeros(len(rows))
    for kind, colour in COLOURS.items():
        count = np.array([row[kind] for row in rows])
        axis.bar(np.arange(len(rows)), count, bottom=bottom, color=colour, width=0.9, label=kind)
        bottom = bottom + count
    ticks = range(2, len(rows), 4)  # .5 s, 2 s, 8 s …; the first bar is exactly 0
    labels = ["0", *(f"{rows[i]['from_s']:g}" for i in ticks)]
    axis.set_xticks([0, *(i - 0.5 for i in ticks)], labels)
    axis.set_title("Dwell", loc="left", color=INK, fontsize=10)
    axis.set_xlabel("seconds", color=INK, fontsize=9)
    axis.set_ylabel("events", color=INK, fontsize=9)
    _legend(figure)
    return figure


def ratio_chart(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws quantiles of the watch ratio for each range of durations."""
    rows = [row for row in rows if row["p50"] is not None]
    figure, axis = _rows_chart("Watch ratio by duration", [_range(row) for row in rows])
    for place, row in zip(_places(len(rows)), rows, strict=True):
        axis.hlines(place, row["p10"], row["p90"], color=plots.QUIET, lw=1.5)
        axis.hlines(place, row["p25"], row["p75"], color=plots.COLOURS[0], lw=7)
        axis.plot([row["p50"]], [place], "o", color=INK, markersize=5)
    axis.set_xlim(left=0)
    axis.set_xlabel("dwell / duration", color=INK, fontsize=9)
    return figure


def null_chart(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws the share of nulls of each signal, in the training and the test period."""
    names = [row["signal"] for row in rows]
    figure, axis = _rows_chart("Share of events with null", names, legend=True)
    bars = ((0.17, "train", plots.COLOURS[0]), (-0.17, "test", plots.COLOURS[3]))
    for shift, split, colour in bars:
        share = np.array([row[f"null_{split}"] or 0.0 for row in rows])
        axis.barh(_places(len(rows)) + shift, share, height=0.3, color=colour, label=split)
    axis.set_xlim(0, 1)
    axis.xaxis.set_major_formatter("{x:.0%}")
    _legend(figure)
    return figure


def _rows_chart(title: str, names: Sequence[str], legend: bool = False) -> tuple[Figure, Axes]:
    """Returns an empty chart with a labelled row for each of `names`, from top to bottom."""
    figure, axis = plots.new_chart(height=0.9 + 0.3 * legend + 0.3 * len(names))
    axis.set_yticks(_places(len(names)), names, color=INK)
    axis.set_ylim(-0.6, len(names) - 0.4)
    axis.set_title(title, loc="left", color=INK, fontsize=10)
    axis.grid(visible=False, axis="y")
    return figure, axis


def _places(count: int) -> np.ndarray:
    return np.arange(count)[::-1]


def _legend(figure: Figure) -> None:
    figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=INK, fontsize=8)


def _range(row: Mapping[str, Any]) -> str:
    high = row["to_s"]
    return f"{row['from_s']:.3g} s or more" if high is None else f"{row['from_s']:.3g}–{high:.3g} s"
