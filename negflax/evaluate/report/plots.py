"""Charts for reports, readable in light and dark themes; no global state of matplotlib is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from negflax.evaluate.calibration import Bin
from negflax.evaluate.report.html import INK
from negflax.evaluate.scoreboard import MODEL, metric_key

# Okabe and Ito's colour-blind-safe hues, with a lightness that is visible on white and on black.
COLOURS = ("#3f86d6", "#dd7a33", "#2c9c7a", "#b46bc0", "#c79a1e", "#d5596a", "#5aa9c7", "#8a8f98")
QUIET = "#8a8f98"
MARKERS = "oDs^vP*X><d"


def new_chart(height: float = 2.5, width: float = 3.6) -> tuple[Figure, Axes]:
    """Returns a transparent figure with plain axes in the page's text colour, for small screens."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.patch.set_alpha(0)
    axis = figure.subplots()
    _plain(axis)
    return figure, axis


def learning_curves(
    records: Sequence[Mapping[str, Any]], panels: Mapping[str, Sequence[str]] | None = None
) -> list[Figure]:
    """Draws curves over training steps, one chart per panel.

    Args:
      records: one mapping per line of the metrics log, each with `step`; a curve is drawn through
        the records that have its key.
      panels: panel title → keys. By default one panel has the losses, and another the validation
        metrics hr_p, hr_n and ndcg_p at the smallest K.
    """
    panels = _default_panels(records) if panels is None else panels
    figures = []
    for title, keys in panels.items():
        if not keys:
            continue
        figure, axis = new_chart()
        for key, colour in zip(keys, _cycle(len(keys)), strict=True):
            points = [(r["step"], r[key]) for r in records if r.get(key) is not None]
            steps, values = np.array(points, float).reshape(-1, 2).T
            marker = "o" if len(points) < 30 else None
            axis.plot(steps, values, color=colour, label=key, marker=marker, markersize=3, lw=1.5)
        _title(axis, title)
        axis.set_xlabel("step", color=INK, fontsize=9)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        figure.legend(
            loc="outside lower center", ncols=3, frameon=False, labelcolor=INK, fontsize=8
        )
        figures.append(figure)
    return figures


def baseline_charts(
    metrics: Mapping[str, Any], scorers: Sequence[str], keys: Sequence[str], masked: bool = True
) -> list[Figure]:
    """Draws the model and the baselines as bars with 95 % intervals and n, one chart per metric.

    Args:
      metrics: `Result.metrics`.
      scorers: names, from top to bottom; `model` for the plain keys.
      keys: metrics such as `hr_p@10`.
      masked: whether seen items are masked or kept.
    """
    figures = []
    for key in keys:
        figure, axis = new_chart(height=1.0 + 0.3 * len(scorers))
        colours = [COLOURS[0] if name == MODEL else QUIET for name in scorers]
        _bars(axis, metrics, [metric_key(key, name, masked) for name in scorers], scorers, colours)
        count = metrics.get(metric_key(f"{key}_n", scorers[0], masked))
        _title(axis, f"{key}  (n {count:,})" if count is not None else key)
        figures.append(figure)
    return figures


def strata_chart(
    title: str, parts: Sequence[str], runs: Mapping[str, Mapping[str, Any]], metric: str, k: int
) -> Figure:
    """Draws a metric on subsets of the judged items as bars with intervals and n, for all runs.

    Args:
      title: what the subsets are divided by.
      parts: prefixes of keys in `Result.metrics`, such as `history=short`.
      runs: name of the run → its `Result.metrics`.
      metric: name of the metric, such as `hr_n`.
      k: list length.
    """
    figure, axis = new_chart(height=1.0 + 0.3 * len(parts) * len(runs))
    first = next(iter(runs.values()))
    width = 0.7 / len(runs)
    for number, (metrics, colour) in enumerate(zip(runs.values(), _cycle(len(runs)), strict=True)):
        keys = [f"{part}/{metric}@{k}" for part in parts]
        labels = [
            f"{part.split('=')[1]}  (n {first.get(f'{key}_n') or 0:,})"
            for part, key in zip(parts, keys, strict=True)
        ]
        offset = (number - (len(runs) - 1) / 2) * width
        _bars(axis, metrics, keys, labels, [colour] * len(parts), width, offset)
        axis.plot([], [], "s", color=colour, label=list(runs)[number])
    if len(runs) > 1:
        figure.legend(
            loc="outside lower center", ncols=3, frameon=False, labelcolor=INK, fontsize=8
        )
    _title(axis, f"{metric}@{k} {title}")
    return figure


def calibration_chart(title: str, bins: Mapping[str, Sequence[Bin]]) -> Figure:
    """Draws observed over predicted p on logarithmic axes, with 95 % intervals and the diagonal."""
    figure, axis = new_chart(height=3.2)
    axis.set_xscale("log")
    axis.set_yscale("log")
    shown = [one for some in bins.values() for one in some if one.observed > 0]
    for (sign, some), colour in zip(bins.items(), COLOURS, strict=False):
        some = [one for one in some if one.observed > 0]
        x = [one.predicted for one in some]
        axis.plot(x, [one.observed for one in some], "o-", color=colour, label=sign, ms=4, lw=1.2)
        baseline = [max(one.low, one.observed / 30) for one in some]
        axis.vlines(x, baseline, [one.high for one in some], color=colour, lw=1, alpha=0.7)
    ends = [one.predicted for one in shown] + [one.observed for one in shown]
    axis.plot([min(ends), max(ends)], [min(ends), max(ends)], color=QUIET, lw=1, ls=(0, (3, 3)))
    _title(axis, title)
    axis.set_xlabel("predicted p", color=INK, fontsize=9)
    axis.set_ylabel("observed share", color=INK, fontsize=9)
    axis.legend(frameon=False, labelcolor=INK, fontsize=8)
    return figure


def front_chart(points: Mapping[str, Sequence[float]], k: int | None = None) -> Figure:
    """Draws HR_p over HR_n of named points, with their Pareto front.

    Args:
      points: name → (hr_p, hr_n), or (hr_p, hr_n, hr_p low, hr_p high, hr_n low, hr_n high).
      k: list length, for the labels of the axes.
    """
    figure, axis = new_chart(height=4.2, width=4.2)
    at = f"@{k}" if k else ""
    pairs = np.array([(point[1], point[0]) for point in points.values()], float).reshape(-1, 2)
    for number, (name, point) in enumerate(points.items()):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        hr_p, hr_n = point[:2]
        if len(point) == 6:
            axis.vlines(hr_n, point[2], point[3], color=colour, lw=1, alpha=0.6)
            axis.hlines(hr_p, point[4], point[5], color=colour, lw=1, alpha=0.6)
        axis.plot([hr_n], [hr_p], marker, color=colour, markersize=6, label=name)
    front = pairs[np.lexsort((-pairs[:, 1], pairs[:, 0]))]
    front = front[front[:, 1] > np.maximum.accumulate(np.append(-np.inf, front[:-1, 1]))]
    axis.plot(front[:, 0], front[:, 1], color=QUIET, lw=1, ls=(0, (3, 3)), zorder=0)
    axis.set_xlabel(f"HR of negatives{at}  (less is better)", color=INK, fontsize=9)
    axis.set_ylabel(f"HR of positives{at}  (more is better)", color=INK, fontsize=9)
    axis.margins(0.14)
    # The legend is outside, as labels beside points that nearly coincide are unreadable.
    figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=INK, fontsize=8)
    return figure


def changes_chart(
    title: str,
    changes: Mapping[str, Sequence[float]],
    repeats: Mapping[str, Sequence[float]] | None = None,
) -> Figure:
    """Draws relative changes in percent as bars from top to bottom, with their intervals.

    Args:
      title: title of the chart.
      changes: name → (change, low, high), as fractions.
      repeats: name → change in each replicate, drawn as dots.
    """
    figure, axis = new_chart(height=1.0 + 0.3 * len(changes))
    value, low, high = 100 * np.array(list(changes.values()), float).reshape(-1, 3).T
    places = np.arange(len(changes))[::-1]
    axis.barh(places, np.nan_to_num(value), color=_cycle(len(changes)), height=0.5)
    axis.hlines(places, low, high, color=INK, lw=1.2)
    for place, name in zip(places, changes, strict=True):
        dots = 100 * np.array((repeats or {}).get(name, ()))
        axis.plot(dots, np.full(len(dots), place), "o", color=INK, ms=2.5, alpha=0.6)
    axis.axvline(0, color=QUIET, lw=1)
    axis.set_yticks(places, list(changes), color=INK)
    axis.grid(visible=False, axis="y")
    _title(axis, title)
    return figure


def lines_chart(title: str, along: str, x: np.ndarray, curves: Mapping[str, np.ndarray]) -> Figure:
    """Draws curves over a common axis with the label `along`."""
    figure, axis = new_chart(height=3.2)
    for (name, values), colour in zip(curves.items(), _cycle(len(curves)), strict=True):
        axis.plot(x, values, color=colour, label=name, lw=1.3)
    _title(axis, title)
    axis.set_xlabel(along, color=INK, fontsize=9)
    axis.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=INK, fontsize=8)
    return figure


def time_chart(title: str, seconds: Mapping[str, float]) -> Figure:
    """Draws a bar for the seconds of each phase, the longest on top."""
    names = sorted(seconds, key=seconds.__getitem__)
    figure, axis = new_chart(height=0.8 + 0.25 * len(names))
    colours = [COLOURS[0] if name == "step" else QUIET for name in names]
    axis.barh(range(len(names)), [seconds[name] for name in names], color=colours, height=0.6)
    axis.set_yticks(range(len(names)), names, color=INK)
    axis.grid(visible=False, axis="y")
    _title(axis, title)
    return figure


def _default_panels(records: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    keys = list(dict.fromkeys(key for record in records for key in record))
    ks = [int(key.split("@")[1]) for key in keys if key.startswith("ndcg_p@") and "/" not in key]
    shown = [key for key in keys if "loss" in key and key != "weighted_loss" and "_low" not in key]
    best = [f"{name}@{min(ks)}" for name in ("hr_p", "hr_n", "ndcg_p")] if ks else []
    return {"Loss": shown, "Validation": [key for key in best if key in keys]}


def _plain(axis: Axes) -> None:
    axis.patch.set_alpha(0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(QUIET)
    axis.tick_params(colors=INK, labelsize=8, color=QUIET, length=3)
    axis.grid(visible=True, color=QUIET, alpha=0.25, lw=0.6)
    axis.set_axisbelow(True)


def _title(axis: Axes, title: str) -> None:
    axis.set_title(title, loc="left", color=INK, fontsize=10)


def _bars(
    axis: Axes,
    metrics: Mapping[str, Any],
    keys: Sequence[str],
    labels: Sequence[str],
    colours: Sequence[str],
    width: float = 0.5,
    offset: float = 0.0,
) -> None:
    """Draws horizontal bars from top to bottom with their intervals."""
    value, low, high = (
        _numbers(metrics, [key + end for key in keys]) for end in ("", "_low", "_high")
    )
    ticks = np.arange(len(keys))[::-1]
    places = ticks - offset
    axis.barh(places, np.nan_to_num(value), color=colours, height=width)
    axis.hlines(places, low, high, color=INK, lw=1.2)
    axis.set_yticks(ticks, labels, color=INK)
    axis.grid(visible=False, axis="y")
    axis.set_xlim(left=0, auto=True)  # the right end adapts to bars that are added later


def _cycle(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _numbers(metrics: Mapping[str, Any], keys: Sequence[str]) -> np.ndarray:
    return np.array([np.nan if metrics.get(key) is None else metrics[key] for key in keys], float)
