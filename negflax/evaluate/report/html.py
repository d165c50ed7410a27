"""Self-contained HTML pages of text, tables and figures, without scripts or external requests."""

from __future__ import annotations

import dataclasses
import io
import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import markupsafe

from negflax.evaluate.report.tabulate import column_names, format_cell, is_text
from negflax.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

    from negflax.evaluate.report.examples import Example

INK = "#010203"  # placeholder: figures get the page's text colour here, in light and dark themes


@dataclasses.dataclass(frozen=True)
class Text:
    """A section of text; blank lines in `body` separate paragraphs."""

    title: str
    body: str


@dataclasses.dataclass(frozen=True)
class Opening:
    """The first section of a page: the main result beside one chart."""

    title: str
    body: str
    chart: MatplotlibFigure
    caption: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A section with a table: one mapping per row, columns in order of first appearance."""

    title: str
    rows: Sequence[Mapping[str, Any]]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Figure:
    """A section with charts, side by side, or one below the other on a phone.

    The charts of `negflax.evaluate.report.plots` are readable in the light and the dark theme.
    """

    title: str
    charts: Sequence[MatplotlibFigure]
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Examples:
    """A section with example users: the history and the lists before and after a signal."""

    title: str
    users: Sequence[Example]
    note: str = ""
    signal: str = "dislike"


Section = Text | Opening | Table | Figure | Examples


def write_report(path: str | os.PathLike, title: str, sections: Sequence[Section]) -> Path:
    """Writes a page atomically: readers see the old file or the complete new one.

    Args:
      path: path of the .html file; its folder is created if needed.
      title: title of the page.
      sections: sections in order.

    Returns:
      The path.
    """
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        resources.files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    page = template.render(
        title=title, sections=[_context(section, i) for i, section in enumerate(sections)]
    )
    write_text(path, page)
    return Path(path)


def _context(section: Section, number: int) -> dict[str, Any]:
    if isinstance(section, Text):
        return {"kind": "text", "title": section.title, "paragraphs": _paragraphs(section.body)}
    if isinstance(section, Opening):
        return {
            "kind": "opening",
            "title": section.title,
            "paragraphs": _paragraphs(section.body),
            "chart": markupsafe.Markup(_inline_svg(section.chart, f"chart{number}")),
            "caption": section.caption,
        }
    if isinstance(section, Table):
        names = column_names(section.rows)
        return {
            "kind": "table",
            "title": section.title,
            "note": section.note,
            "columns": [{"name": name, "word": is_text(section.rows, name)} for name in names],
            "cells": [[format_cell(row.get(name)) for name in names] for row in section.rows],
        }
    if isinstance(section, Examples):
        return {"kind": "examples"} | vars(section)
    charts = [_inline_svg(c, f"chart{number}.{i}") for i, c in enumerate(section.charts)]
    return {
        "kind": "figure",
        "title": section.title,
        "caption": section.caption,
        "charts": [markupsafe.Markup(svg) for svg in charts],
    }


def _paragraphs(body: str) -> list[str]:
    return [part.strip() for part in re.split(r"\n\s*\n", body) if part.strip()]


def _inline_svg(figure: MatplotlibFigure, salt: str) -> str:
    """Returns the figure as an SVG element that scales with the page and follows its theme.

    `salt` makes the ids of the figures on a page distinct and reproducible.
    """
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)  # implied in HTML; so there are no URLs
    head, rest = svg.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    return f"{head}>{rest}".replace(INK, "currentColor")
