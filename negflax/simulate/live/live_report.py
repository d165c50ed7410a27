"""Results of a live experiment: figures with fixed names, tables, and sections of a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from negflax.config import Config
from negflax.evaluate.report import html, plots
from negflax.simulate.live.arms import AGAIN, CONTROL, PERSONAL, PUBLISHED, reproduced
from negflax.simulate.live.changes import (
    Change,
    Pair,
    Replicates,
    by_half,
    changes,
    mean_level,
)
from negflax.simulate.live.live_settings import LiveSettings
from negflax.simulate.live.user_metrics import METRICS

LABELS = "input_and_label"  # the arm that is compared with baselines that train nothing
HEADLINE = ("dislike_rate", "repeated_dislikes", "satisfied", "viewers")  # shown as charts
FIXED = {"feed": ("ctr",)}  # metrics that are constant on a surface
PUBLISHED_TABLE = "Published effects of real live experiments, and this simulation"

Rows = list[dict[str, Any]]


class Found(NamedTuple):
    """Results of all arms on one surface.

    Attributes:
      surface: `feed` or `home`.
      arms: names of the arms, the control first.
      replicates: sums of the arms, per replicate.
      changes: (arm, control) → metric → change.
      halves: (arm, control) → daily curve and half of the days → change.
    """

    surface: str
    arms: list[str]
    replicates: Replicates
    changes: dict[Pair, dict[str, Change]]
    halves: dict[Pair, dict[str, Change]]

    @property
    def metrics(self) -> list[str]:
        """Metrics that can change on this surface."""
        return [metric for metric in METRICS if metric not in FIXED.get(self.surface, ())]

    def curve(self, arm: str, name: str) -> np.ndarray:
        """Returns the mean of a daily curve over replicates, (D,)."""
        return np.mean([one[arm].curves[name] for one in self.replicates], axis=0)


def find(surface: str, arms: Sequence[str], replicates: Replicates) -> Found:
    """Compares every arm with the control, and with the controls of the published experiments."""
    pairs = [(arm, CONTROL) for arm in arms if arm != CONTROL]
    published = [
        pair
        for one in PUBLISHED
        if one.surface == surface
        for pair in ((one.arm, one.control), (one.arm, AGAIN))
    ]
    personal = [(LABELS, name) for name in PERSONAL]
    pairs += [
        pair
        for pair in dict.fromkeys([*published, *personal])
        if pair not in pairs and set(pair) <= set(arms)
    ]
    halves = by_half(replicates, pairs)
    return Found(surface, list(arms), replicates, changes(replicates, pairs), halves)


def figures(all_found: Sequence[Found]) -> dict[str, Any]:
    """Returns changes, intervals and levels by flat names; `by_seed` and `curves` are nested."""
    named: dict[str, Any] = {}
    for number, found in enumerate(all_found):
        surface = found.surface
        for arm in found.arms[1:]:
            of_arm = found.changes[arm, CONTROL], found.halves[arm, CONTROL]
            for metric, change in (of_arm[0] | of_arm[1]).items():
                if metric in FIXED.get(surface, ()):
                    continue
                for prefix in (f"{surface}/", "") if number == 0 else (f"{surface}/",):
                    for end in ("value", "low", "high"):
                        tail = "" if end == "value" else f"_{end}"
                        named[f"{prefix}{arm}/{metric}{tail}"] = getattr(change, end)
        for arm in found.arms:
            for metric in found.metrics:
                named[f"{surface}/{arm}/level/{metric}"] = mean_level(found.replicates, arm, metric)
    named |= {
        f"reproduced/{r['surface']}/{r['arm']}/{r['metric']}": r["reproduced"]
        for r in published_rows(all_found)
    }
    named["by_seed"] = {
        f"{found.surface}/{arm} against {control}": {m: of[m].by_seed for m in found.metrics}
        for found in all_found
        for (arm, control), of in found.changes.items()
    }
    named["curves"] = {
        found.surface: {
            arm: {name: found.curve(arm, name).tolist() for name in curves}
            for arm, (_, _, curves) in found.replicates[0].items()
        }
        for found in all_found
    }
    return named


def tables(all_found: Sequence[Found]) -> dict[str, Rows]:
    """Returns tables by title: published effects, then changes per surface, overall and by half."""
    made = {PUBLISHED_TABLE: published_rows(all_found)}
    for found in all_found:
        surface, seeds = found.surface, len(found.replicates)
        against = {arm: found.changes[arm, CONTROL] for arm in found.arms[1:]}
        made[f"{surface}: change against {CONTROL} [95 % interval], in percent, n = {seeds}"] = [
            {"metric": metric, CONTROL: mean_level(found.replicates, CONTROL, metric)}
            | {arm: percent(of[metric]) for arm, of in against.items()}
            for metric in found.metrics
        ]
        against = {arm: found.halves[arm, CONTROL] for arm in found.arms[1:]}
        made[f"{surface}: the same, in the first and second half of the days"] = [
            {"daily mean": name} | {arm: percent(of[name]) for arm, of in against.items()}
            for name in next(iter(against.values()), {})
        ]
    return made


def published_rows(all_found: Sequence[Found]) -> Rows:
    """Compares each published effect whose arms were run with the simulated one."""
    of_surface = {found.surface: found for found in all_found}
    rows = []
    for one in PUBLISHED:
        found = of_surface.get(one.surface)
        if not found or (one.arm, one.control) not in found.changes:
            continue
        change = found.changes[one.arm, one.control][one.metric]
        again = found.changes.get((one.arm, AGAIN)) if one.control == CONTROL else None
        rows.append(
            {
                "surface": one.surface,
                "arm": one.arm,
                "against": one.control,
                "metric": one.metric,
                "published %": f"{one.percent:+.2f}",
                "simulated %": percent(change),
                "n": len(change.by_seed),
                "reproduced": reproduced(one.percent, change.low, change.high),
                "note": one.note,
                f"against {AGAIN} %": percent(again[one.metric]) if again else "",
            }
        )
    return rows


def personal_sentence(all_found: Sequence[Found]) -> str:
    """Returns whether labels beat baselines that train nothing: fewer dislikes, by the interval.

    Empty if none of these arms was run.
    """
    answers = []
    for found in all_found:
        for name in PERSONAL:
            if (LABELS, name) in found.changes:
                change = found.changes[LABELS, name]["dislike_rate"]
                yes = "yes" if change.high < 0 else "no"
                answers.append(f"{found.surface}, {name}: {yes}, {percent(change)} %")
    return (
        f"Does {LABELS} beat baselines that react to dislikes and train nothing (a lower "
        f"dislike_rate, with an interval below 0)? {'; '.join(answers)}."
    ) * bool(answers)


def percent(change: Change) -> str:
    """Formats a change in percent, as `-3.1 [-5.0, -1.2]`, or `-3.1` if it has no interval."""
    value, low, high = (f"{100 * x:+.1f}" for x in change[:3])
    return f"{value} [{low}, {high}]" if np.isfinite(change.low) else value


def sections(
    config: Config, settings: LiveSettings, all_found: Sequence[Found], made: dict[str, Rows]
) -> list[html.Section]:
    """Returns the page's sections: explanation, published effects, and results per surface."""
    published, *others = made
    page: list[html.Section] = [
        html.Text("How to read this", _explanation(config, settings, all_found)),
        html.Table(published, made[published], personal_sentence(all_found)),
    ]
    days = np.arange(1, settings.days + 1)
    for number, found in enumerate(all_found):
        surface, against = found.surface, {a: found.changes[a, CONTROL] for a in found.arms[1:]}
        charts = [
            plots.changes_chart(
                f"{metric}, %",
                {arm: of[metric][:3] for arm, of in against.items()},
                {arm: of[metric].by_seed for arm, of in against.items()},
            )
            for metric in HEADLINE
        ]
        caption = "Bars with 95 % intervals; a dot is one replicate."
        page.append(html.Figure(f"{surface}: change against {CONTROL}", charts, caption))
        change, halves = others[2 * number : 2 * number + 2]
        page.append(html.Table(change, made[change]))
        lines = [
            plots.lines_chart(name, "day", days, {a: found.curve(a, name) for a in found.arms})
            for name in found.replicates[0][CONTROL].curves
        ]
        caption = (
            "Means over replicates. Cluster entropy, in bits, is that of the items that a user "
            "played last; it falls if lists become narrower (a filter bubble)."
        )
        page.append(html.Figure(f"{surface}: day by day", lines, caption))
        page.append(html.Table(halves, made[halves]))
    return page


def _explanation(config: Config, settings: LiveSettings, all_found: Sequence[Found]) -> str:
    users = "a random share of them" if settings.split else "all of them, in its own copy"
    seeds = len(all_found[0].replicates) if all_found else 0
    interval = (
        f"There are n = {seeds} replicates, each with its own users, items, random numbers and "
        "training. A change is computed from the mean of their log ratios. Its interval is "
        "Student's t interval over replicates, which covers the variation of all of these."
        if seeds > 1
        else "Intervals are over users, for one world and one training. Another training may "
        "change the figures by as much; repeat the experiment with more --seeds to find out."
    )
    return (
        f"A simulated platform with {config.world.num_users:,} users and "
        f"{config.world.num_items:,} items. After {settings.log_days} days of a logging platform "
        f"every arm serves its users ({users}) for {settings.days} days and retrains every "
        f"{settings.retrain_every} days on its own log. All arms have the same initial log and the "
        "same random numbers.\n\n"
        f"{interval}\n\n"
        f"The control, {CONTROL}, does not use dislikes. Published effects are those of a real "
        "platform (Wang et al., RecSys 2023); they are quoted, not measured here.\n\n"
        + "; ".join(f"{name}: {what}" for name, what in METRICS.items())
        + "."
    )
