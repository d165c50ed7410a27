"""Figures for reports: matplotlib's object interface, no global state, readable in both themes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from negflax.evaluate.report import INK
from negflax.evaluate.scoreboard import MODEL, metric_key

# Okabe and Ito's colour-blind-safe hues, moved to a lightness that stands out on white and black.
COLOURS = ("#3f86d6", "#dd7a33", "#2c9c7a", "#b46bc0", "#c79a1e", "#d5596a", "#5aa9c7", "#8a8f98")
QUIET = "#8a8f98"


def new_figure(columns: int = 1, height: float = 3.0, width: float = 8.0) -> tuple[Figure, list]:
    """A transparent figure with a row of plain axes in the page's ink: (figure, axes)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.patch.set_alpha(0)
    axes = list(figure.subplots(1, columns, squeeze=False)[0])
    for one in axes:
        _plain(one)
    return figure, axes


def learning_curves(
    records: Sequence[Mapping[str, Any]], panels: Mapping[str, Sequence[str]] | None = None
) -> Figure:
    """Curves over training steps.

    Args:
      records: one mapping a line of the metrics log, each with `step`; a curve is drawn through
        the records that hold its key.
      panels: panel title → keys. Without it, `loss…` keys are one panel and the validation metrics
        hr_p, hr_n and ndcg_p at the smallest K another.
    """
    panels = _default_panels(records) if panels is None else panels
    panels = {title: keys for title, keys in panels.items() if keys} or {"": []}
    figure, axes = new_figure(len(panels))
    for axis, (title, keys) in zip(axes, panels.items(), strict=True):
        for key, colour in zip(keys, _cycle(len(keys)), strict=True):
            points = [(r["step"], r[key]) for r in records if r.get(key) is not None]
            steps, values = np.array(points, float).reshape(-1, 2).T
            marker = "o" if len(points) < 30 else None
            axis.plot(steps, values, color=colour, label=key, marker=marker, markersize=3, lw=1.5)
        axis.set_title(title, loc="left", color=INK, fontsize=10)
        axis.set_xlabel("step", color=INK, fontsize=9)
        if keys:
            axis.legend(frameon=False, labelcolor=INK, fontsize=8)
    return figure


def floors_chart(
    metrics: Mapping[str, Any], scorers: Sequence[str], keys: Sequence[str], masked: bool = True
) -> Figure:
    """Bars of the model against its floors, one panel a metric, with 95 % intervals.

    Args:
      metrics: `Result.metrics`.
      scorers: names, from top to bottom; `model` for the plain keys.
      keys: metrics such as `hr_p@10`.
      masked: the headline mode, or seen items kept.
    """
    figure, axes = new_figure(len(keys), height=1.0 + 0.36 * len(scorers))
    places = np.arange(len(scorers))[::-1]
    for number, (axis, key) in enumerate(zip(axes, keys, strict=True)):
        value, low, high = (
            _numbers(metrics, [metric_key(key + end, name, masked) for name in scorers])
            for end in ("", "_low", "_high")
        )
        colours = [COLOURS[0] if name == MODEL else QUIET for name in scorers]
        axis.barh(places, np.nan_to_num(value), color=colours, height=0.5)
        axis.hlines(places, low, high, color=INK, lw=1.2)
        axis.set_yticks(places, scorers if number == 0 else [""] * len(scorers), color=INK)
        axis.set_title(key, loc="left", color=INK, fontsize=10)
        axis.grid(visible=False, axis="y")
        axis.set_xlim(left=0)
    return figure


def front_chart(points: Mapping[str, Sequence[float]], k: int | None = None) -> Figure:
    """HR_p against HR_n of named points, with the front: no other has more HR_p for less HR_n.

    Args:
      points: name → (hr_p, hr_n), or (hr_p, hr_n, hr_p low, hr_p high, hr_n low, hr_n high).
      k: list length, for the axes' names.
    """
    figure, (axis,) = new_figure(1, height=4.2, width=6.4)
    at = f"@{k}" if k else ""
    pairs = np.array([(point[1], point[0]) for point in points.values()], float).reshape(-1, 2)
    for (name, point), colour in zip(points.items(), _cycle(len(points)), strict=True):
        hr_p, hr_n = point[:2]
        if len(point) == 6:
            axis.vlines(hr_n, point[2], point[3], color=colour, lw=1, alpha=0.6)
            axis.hlines(hr_p, point[4], point[5], color=colour, lw=1, alpha=0.6)
        axis.plot([hr_n], [hr_p], "o", color=colour, markersize=6)
        axis.annotate(
            name, (hr_n, hr_p), (7, -11), textcoords="offset points", color=INK, fontsize=8
        )
    front = pairs[np.lexsort((-pairs[:, 1], pairs[:, 0]))]
    front = front[front[:, 1] > np.maximum.accumulate(np.append(-np.inf, front[:-1, 1]))]
    axis.plot(front[:, 0], front[:, 1], color=QUIET, lw=1, ls=(0, (3, 3)), zorder=0)
    axis.set_xlabel(f"HR of negatives{at}  (less is better)", color=INK, fontsize=9)
    axis.set_ylabel(f"HR of positives{at}  (more is better)", color=INK, fontsize=9)
    axis.margins(0.14)
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


def _cycle(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _numbers(metrics: Mapping[str, Any], keys: Sequence[str]) -> np.ndarray:
    return np.array([np.nan if metrics.get(key) is None else metrics[key] for key in keys], float)
