"""Figures as aligned plain text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from negflax.evaluate.scoreboard import metric_key


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Formats a plain-text table, with columns in order of first appearance.

    Numbers are aligned to the right, text to the left.
    """
    columns = column_names(rows)
    cells = [columns] + [[format_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    text = [is_text(rows, column) for column in columns]

    def line(row: list[str]) -> str:
        aligned = zip(row, widths, text, strict=True)
        return "  ".join(c.ljust(w) if left else c.rjust(w) for c, w, left in aligned).rstrip()

    return "\n".join([line(cells[0]), line(["-" * w for w in widths]), *map(line, cells[1:])])


def column_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the keys of all rows, in order of first appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))


def is_text(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    """Returns whether a column has text, which is aligned to the left."""
    return any(isinstance(row.get(column), str) for row in rows)


def format_cell(value: Any) -> str:
    """Formats a cell: floats with four decimals, integers with commas, a dash if undefined."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float | np.floating):
        return f"{value:.4f}"
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def summary_rows(
    metrics: Mapping[str, Any], scorers: Sequence[str], keys: Sequence[str], masked: bool = True
) -> list[dict[str, Any]]:
    """Returns one row per scorer for `format_table` or a report, with `value ±half` per metric.

    `half` is half the width of the 95 % interval, whose ends are in `metrics`.

    Args:
      metrics: `Result.metrics`.
      scorers: names, in order; `model` for the plain keys.
      keys: metrics with their K, such as `hr_p@10`.
      masked: whether seen items are masked or kept.
    """

    def cell(key: str) -> str | None:
        value, low, high = (metrics.get(f"{key}{end}") for end in ("", "_low", "_high"))
        if value is None or low is None or high is None:
            return format_cell(value)
        return f"{short(value)} ±{short((high - low) / 2)}"

    return [
        {"scorer": name, **{key: cell(metric_key(key, name, masked)) for key in keys}}
        for name in scorers
    ]


def repeated(
    metrics: Mapping[str, Any], scorers: Sequence[str], keys: Sequence[str], masked: bool = True
) -> dict[str, str]:
    """Returns scorers all of whose figures equal those of an earlier one: name → earlier name."""
    seen: dict[tuple[Any, ...], str] = {}
    found = {}
    for name in scorers:
        figures = tuple(
            metrics.get(metric_key(f"{key}{end}", name, masked))
            for key in keys
            for end in ("", "_low", "_high")
        )
        if any(value is not None for value in figures) and seen.setdefault(figures, name) != name:
            found[name] = seen[figures]
    return found


def repeated_note(found: Mapping[str, str]) -> str:
    """Returns a sentence that names the rows left out of a table; empty if there are none."""
    named = ", ".join(f"{name} (= {other})" for name, other in found.items())
    return f"Left out, as every figure equals another row's: {named}." if named else ""


def short(value: float) -> str:
    """Formats a number with three decimals and without a leading zero."""
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def count_row(
    metrics: Mapping[str, Any], keys: Sequence[str], masked: bool = True
) -> dict[str, Any]:
    """Returns the last row of a table: the number of queries for which each metric is defined."""
    return {"scorer": "n"} | {
        key: format_cell(metrics.get(f"{metric_key(key, masked=masked)}_n")) for key in keys
    }
