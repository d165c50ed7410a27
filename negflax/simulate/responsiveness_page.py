"""The HTML page of responsiveness: charts like the paper's figure 3, curves, tables, examples."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from negflax.data import Sequences as Log
from negflax.evaluate.report import html, plots
from negflax.evaluate.report.examples import SHOWN_EVENTS, Example, line_of, mark_of, related_of
from negflax.simulate.arm import BRANCHES
from negflax.simulate.measures import ENDS, KINDS, LENGTHS, PAST
from negflax.simulate.responsiveness import Settings, histories
from negflax.simulate.walk import DOSES, Walk

# Wang et al., RecSys 2023 (arXiv 2308.12256), section 4: change by cluster and by creator.
PUBLISHED = {
    "no_signal": (0.0, 0.0),
    "input_only": (-0.227, -0.228),
    "input_and_label": (-0.608, -0.641),
}
SHOWN_USERS = 3
WORDS = {
    "dislike": "Both watch the last one to its end; one of them dislikes it.",
    "skip": "One watches the last one to its end; the other skips it.",
}

Rows = Sequence[Mapping[str, Any]]


def users(name: str, found: Walk, log: Log, settings: Settings) -> html.Examples:
    """Returns example users: the history and both lists of the first with related items listed.

    Args:
      name: name of the arm.
      found: lists of the arm on shared trajectories.
      log: the events.
      settings: settings of the simulation.
    """
    event_ST, catalogue, length = histories(log, settings), log.catalogue, LENGTHS[0]
    branches = [0, BRANCHES.index(settings.plan.signal)]
    shown = []
    for user, events in enumerate(event_ST):
        before, after = found.branch_BSK[branches, user, :length]
        related_V = related_of(catalogue, found.item_S[user])
        if len(shown) == SHOWN_USERS or not related_V[before].any():
            continue
        newest = events[::-1][1:SHOWN_EVENTS]
        history = [line_of(catalogue, found.item_S[user], "liked")]
        history += [line_of(catalogue, log.item_E[e], mark_of(log, e)) for e in newest]
        lists = [
            [
                line_of(catalogue, row, "", bool(related_V[row]), "" if row in other else moved)
                for row in own
            ]
            for own, other, moved in ((before, after, "gone"), (after, before, "new"))
        ]
        number = np.searchsorted(log.offsets_U1, events[0], side="right") - 1
        shown.append(Example(str(log.user_ids[number]), history, *lists))
    note = (
        f"The first {SHOWN_USERS} pairs whose list has an item by the creator, or in the cluster, "
        f"of the newest item. {WORDS[settings.plan.signal]}"
    )
    return html.Examples(f"Example users: {name}", shown, note, settings.plan.signal)


def write_page(
    path: str | Path,
    table: Rows,
    named: Mapping[str, float],
    settings: Settings,
    shown: Sequence[html.Examples],
) -> Path:
    """Writes the page and returns its path.

    Args:
      path: path of the file.
      table: rows of `measures.summarise`, with `trajectories` and `arm`.
      named: figures by name, of the log itself and of the ideal observer among them.
      settings: settings of the simulation.
      shown: example users, one section per arm.
    """
    places = list(dict.fromkeys(row["trajectories"] for row in table))
    seeds, signal = max(row["seeds"] for row in table), settings.plan.signal
    text = (
        f"{settings.pairs:,} pairs of simulated users share a history of {settings.plan.k} items. "
        f"{WORDS[signal]} Similarity is the share of the next list that is in this item's cluster, "
        f"or by its creator. Responsiveness is the mean similarity with the {signal} divided by "
        "that without it, minus 1.\n\n"
        f"Intervals are 95 % intervals over pairs{' and training seeds' if seeds > 1 else ''} "
        f"(at most {seeds} per arm). In the log itself, the same comparison for later positives "
        "gives "
        + ", ".join(f"{_interval(named, f'log_effect/{kind}')} by {kind}" for kind in KINDS)
        + ". This is observational, so it may be confounded."
    )
    published = (
        " Grey: published by Wang et al., RecSys 2023, for their platform; not measured here."
    ) * (signal == "dislike")
    ceilings = (
        " Dashed: the ceiling, which is the response of an ideal observer with the arm's objective."
    ) * any(name.startswith("ceiling/") for name in named)
    sections: list[html.Section] = [html.Text("What is measured", text)]
    for where in places:
        rows = [row for row in table if row["trajectories"] == where]
        sections.append(
            html.Figure(
                f"After one {signal}, {where} trajectories",
                [_bars(rows, signal, k, named if where == "shared" else {}) for k in KINDS],
                f"Lists of {LENGTHS[0]}." + published + ceilings * (where == "shared"),
            )
        )
    for where in places:
        rows = [row for row in table if row["trajectories"] == where]
        sections.append(
            html.Figure(
                f"Persistence and dose, {where} trajectories",
                [_persistence(rows), _dose(rows, signal)],
                "By cluster. Left: lists after 0 to 19 more items with equal feedback. Right: "
                "lists after one, two or all of the last three items, which are from one cluster, "
                f"were {PAST[signal]}.",
            )
        )
    sections += [*shown, html.Table("All measures", [_cells(row) for row in table], _NOTE)]
    return html.write_report(path, "Responsiveness", sections)


_NOTE = (
    "Similarity without and with the feedback, its relative change with an interval, and the "
    "number of pairs for which it is defined. Specificity: change of the share of other clusters "
    "of the history, among the items that are not in item k's cluster. Overlap: share of items "
    "that both lists have, minus 1."
)


def _arms(rows: Rows) -> list[str]:
    return list(dict.fromkeys(row["arm"] for row in rows))


def _bars(rows: Rows, signal: str, kind: str, named: Mapping[str, float]) -> Figure:
    """Draws one bar per arm beside the published value, and its ceiling as a line."""
    head = {
        r["arm"]: r for r in rows if (r["what"], r["kind"], r["K"]) == (signal, kind, LENGTHS[0])
    }
    published_too = signal == "dislike"
    left = 0.2 * published_too
    figure, axis = plots.new_chart(height=2.8)
    for place, (arm, row) in enumerate(head.items()):
        low, value, high = (100 * row[f"change{end}"] for end in ("_low", "", "_high"))
        axis.bar(place - left, value, 0.36, color=plots.COLOURS[place % len(plots.COLOURS)])
        axis.vlines(place - left, low, high, color=html.INK, lw=1.2)
        if (ceiling := named.get(f"ceiling/{arm}/{kind}")) is not None:
            reach = place - 0.45, place + 0.45
            axis.hlines(100 * ceiling, *reach, color=html.INK, lw=1, ls=(0, (4, 3)))
        if arm in PUBLISHED and published_too:
            published = 100 * PUBLISHED[arm][KINDS.index(kind)]
            axis.bar(place + 0.2, published, 0.36, color=plots.QUIET, alpha=0.5)
    names = [textwrap.fill(arm.replace("_", " "), 11) for arm in head]
    axis.set_xticks(range(len(head)), names, color=html.INK)
    axis.axhline(0, color=plots.QUIET, lw=0.8)
    axis.set_ylabel("change of similarity, %", color=html.INK, fontsize=9)
    axis.set_title(f"by {kind}", loc="left", color=html.INK, fontsize=10)
    return figure


def _persistence(rows: Rows) -> Figure:
    figure = _curves(rows, "persistence", lambda x: int(x[2:]) if x.startswith("k+") else None)
    figure.axes[0].set_xlabel("list after item k +", color=html.INK, fontsize=9)
    figure.axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _dose(rows: Rows, signal: str) -> Figure:
    figure = _curves(rows, "dose", lambda x: int(x[0]) if f" of {DOSES} " in x else None)
    figure.axes[0].set_xlabel(f"{signal}s among {DOSES} items", color=html.INK, fontsize=9)
    figure.axes[0].set_xticks(range(1, DOSES + 1))
    return figure


def _curves(rows: Rows, title: str, place_of: Any) -> Figure:
    """Draws one line per arm with intervals: change by cluster over the number within `what`."""
    figure, axis = plots.new_chart(height=2.8)
    for arm, colour in zip(_arms(rows), plots.COLOURS, strict=False):
        points = [
            (place_of(row["what"]), *(100 * row[f"change{end}"] for end in ENDS))
            for row in rows
            if row["arm"] == arm
            and row["kind"] == KINDS[0]
            and row["K"] == LENGTHS[0]
            and place_of(row["what"]) is not None
        ]
        if points:
            x, value, low, high = np.array(points, float).T
            axis.plot(x, value, "o-", color=colour, ms=3, lw=1.4, label=arm.replace("_", " "))
            axis.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
    axis.axhline(0, color=plots.QUIET, lw=0.8)
    axis.set_ylabel("change of similarity, %", color=html.INK, fontsize=9)
    axis.set_title(title, loc="left", color=html.INK, fontsize=10)
    figure.legend(
        loc="outside lower center", ncols=2, frameon=False, labelcolor=html.INK, fontsize=8
    )
    return figure


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = {k: row[k] for k in ("trajectories", "arm", "what", "kind", "K", "before", "after")}
    return kept | {"change": _interval(row, "change"), "n": row["n"], "seeds": row["seeds"]}


def _interval(values: Mapping[str, float], key: str) -> str:
    value, low, high = (values[f"{key}{end}"] for end in ENDS)
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]".replace("-", "−")
