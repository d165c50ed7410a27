"""Live experiments on the simulated platform: every arm on every surface, once, resumably.

Each finished arm leaves its sums over users in <workdir>/figures/<surface>-<arm>.npz, its figures
beside; when the command is given again, it is not served again.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from launch import flags as shared
from negflax.config import Config, ConfigError
from negflax.config import to_dict as config_dict
from negflax.evaluate import format_table, plots, report
from negflax.files import plain, write_arrays, write_json
from negflax.simulate import live, live_metrics
from negflax.simulate.live import Settings
from negflax.simulate.live_arms import ARMS, CONTROL, PUBLISHED, reproduced
from negflax.simulate.live_metrics import METRICS, Sums
from negflax.world.environment import SURFACES

RESAMPLES = 2_000
ENDS = ("", "_low", "_high")
EXPERIMENT = "experiment.json"  # config and settings of what the working folder holds
HEADLINE = ("dislike_rate", "repeated_dislikes", "satisfied", "viewers")  # as charts
FIXED = {"feed": ("ctr",)}  # metrics that are the same whatever is served

Changes = dict[str, dict[str, tuple[float, float, float]]]


def run(
    config: Config, workdir: Path, surfaces: Sequence[str], arms: Sequence[str], settings: Settings,
    html: str,
) -> None:  # fmt: skip
    """Serves what has not been served yet, then prints and writes everything.

    Raises:
      ConfigError: an unknown arm or surface, or a working folder of another experiment.
    """
    for flag, given, known in (("arms", arms, ARMS), ("surfaces", surfaces, SURFACES)):
        if unknown := [name for name in given if name not in known]:
            raise ConfigError(f"--{flag}: unknown {unknown}; choose from {', '.join(known)}")
    arms = [CONTROL, *(name for name in dict.fromkeys(arms) if name != CONTROL)]
    _claim(workdir, config, settings, arms)
    found = serve_all(config, workdir, surfaces, arms, settings)

    tables, named = {}, {"users": config.world.num_users, "days": settings.days}
    changed: dict[str, Changes] = {}
    for surface in surfaces:
        of_surface = found[surface]
        others = {name: CONTROL for name in arms if name != CONTROL}
        changed[surface] = live_metrics.changes(of_surface, others, RESAMPLES, settings.seed)
        for arm, figures in changed[surface].items():
            names = _figures(arm, figures, surface)
            named |= {f"{surface}/{name}": x for name, x in names.items()}
            if surface == surfaces[0]:
                named |= names
        for arm, sums in of_surface.items():
            levels = {m: live_metrics.level(sums, m) for m in _shown(surface)}
            named |= {f"{surface}/{arm}/level/{m}": x for m, x in levels.items()}
        tables[f"{surface}: change against {CONTROL} [95 % interval], in percent"] = [
            _row(surface, metric, of_surface[CONTROL], changed[surface])
            for metric in _shown(surface)
        ]
    beside = published_rows(found, changed, settings)
    tables["Published effects of real live experiments, and this simulation"] = beside
    for title, rows in tables.items():
        print(f"\n{title}\n{format_table(rows)}")
    named |= {f"reproduced/{r['surface']}/{r['arm']}/{r['metric']}": r["reproduced"]
              for r in beside}  # fmt: skip
    curves = {s: {a: {n: c.tolist() for n, c in x.curves.items()} for a, x in found[s].items()}
              for s in surfaces}  # fmt: skip
    outcome = named | {"curves": curves, "tables": tables}
    write_json(shared.JSON.value or workdir / "live.json", plain(outcome))
    page = report.write_report(
        html or workdir / "live.html", f"{config.name}: arms that use dislikes differently",
        _sections(config, settings, found, changed, tables),
    )  # fmt: skip
    print(f"\npage: {page}")


def serve_all(
    config: Config, workdir: Path, surfaces: Sequence[str], arms: Sequence[str], settings: Settings
) -> dict[str, dict[str, Sums]]:
    """Surface → arm → sums; what a file holds is read."""
    paths = {(s, a): workdir / "figures" / f"{s}-{a}.npz" for s in surfaces for a in arms}
    missing = [key for key, path in paths.items() if not path.exists()]
    if missing:
        shared_start = time.monotonic()
        start = live.prepare(config, settings)
        models = live.Models(start, workdir)
        for sees in sorted({ARMS[arm].sees for _, arm in missing}):
            models.base(sees)
        logging.info("logging platform and positives-only models: %.0f s",
                     time.monotonic() - shared_start)  # fmt: skip
    since = time.monotonic()
    for number, (surface, arm) in enumerate(missing):

        def told(day: int) -> None:
            done = number + (day + 1) / settings.days  # noqa: B023
            left = (len(missing) - done) * (time.monotonic() - since) / done
            logging.info(
                "%s on %s: day %d of %d, arm %d of %d, ETA %.0f min",
                arm, surface, day + 1, settings.days, number + 1, len(missing), left / 60,  # noqa: B023
            )  # fmt: skip

        sums = live.run_arm(arm, surface, (arms.index(arm), len(arms)), start, models, told)
        _save(paths[surface, arm], sums)
    return {s: {a: _load(paths[s, a]) for a in arms} for s in surfaces}


def published_rows(
    found: dict[str, dict[str, Sums]], changed: dict[str, Changes], settings: Settings
) -> list[dict[str, Any]]:
    """A row for each published effect whose arms were run: theirs, ours, and whether they agree."""
    rows, pairs = [], {}
    for one in PUBLISHED:
        arms = found.get(one.surface, {})
        if one.arm not in arms or one.control not in arms:
            continue
        if one.control == CONTROL:
            change = changed[one.surface][one.arm][one.metric]
        else:
            pair = one.surface, one.arm, one.control
            if pair not in pairs:
                pairs[pair] = live_metrics.changes(
                    arms, {one.arm: one.control}, RESAMPLES, settings.seed
                )
            change = pairs[pair][one.arm][one.metric]
        rows.append(
            {
                "surface": one.surface, "arm": one.arm, "against": one.control,
                "metric": one.metric, "published %": f"{one.percent:+.2f}",
                "simulated %": _percent(change),
                "reproduced": reproduced(one.percent, *change[1:]), "note": one.note,
            }
        )  # fmt: skip
    return rows


def _claim(workdir: Path, config: Config, settings: Settings, arms: Sequence[str]) -> None:
    """Notes what the folder holds; arms may be added later, unless they share the users."""
    kept = {"config": config_dict(config), "settings": dataclasses.asdict(settings)}
    if settings.split:
        kept["arms"] = list(arms)
    kept = json.loads(json.dumps(kept))
    path = workdir / EXPERIMENT
    if path.exists() and json.loads(path.read_text()) != kept:
        raise ConfigError(f"{workdir} holds an experiment with other settings: take another "
                          "--workdir, or remove it")  # fmt: skip
    write_json(path, kept)


def _save(path: Path, sums: Sums) -> None:
    parts = {f"{part}/{name}": x for part, named in sums._asdict().items()
             for name, x in named.items()}  # fmt: skip
    levels = {metric: live_metrics.level(sums, metric) for metric in METRICS}
    write_json(path.with_suffix(".json"), plain(levels))
    write_arrays(path, parts)


def _load(path: Path) -> Sums:
    parts: dict[str, dict[str, np.ndarray]] = {name: {} for name in Sums._fields}
    with np.load(path) as file:
        for name in file.files:
            part, metric = name.split("/")
            parts[part][metric] = file[name]
    return Sums(**parts)


def _shown(surface: str) -> list[str]:
    return [metric for metric in METRICS if metric not in FIXED.get(surface, ())]


def _figures(arm: str, figures: dict[str, Any], surface: str) -> dict[str, float]:
    return {
        f"{arm}/{metric}{end}": x
        for metric in _shown(surface)
        for end, x in zip(ENDS, figures[metric], strict=True)
    }


def _row(surface: str, metric: str, control: Sums, changed: Changes) -> dict[str, Any]:
    row = {"metric": metric, CONTROL: live_metrics.level(control, metric)}
    return row | {arm: _percent(figures[metric]) for arm, figures in changed.items()}


def _percent(change: Sequence[float]) -> str:
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * x for x in change))


def _sections(
    config: Config, settings: Settings, found: dict[str, dict[str, Sums]],
    changed: dict[str, Changes], tables: dict[str, list[dict[str, Any]]],
) -> list[report.Section]:  # fmt: skip
    users = "a random share each" if settings.split else "all of them, in worlds of their own"
    text = (
        f"A simulated platform with {config.world.num_users:,} users and "
        f"{config.world.num_items:,} items. After {settings.log_days} days of a logging platform "
        f"every arm serves its users ({users}) for {settings.days} days and retrains every "
        f"{settings.retrain_every} days on its own log. Same users, same luck, same start.\n\n"
        f"The control, {CONTROL}, does not know of dislikes. Published effects are those of real "
        "platforms (Wang et al., RecSys 2023); they are quoted, not measured here.\n\n"
        + "; ".join(f"{name}: {what}" for name, what in METRICS.items()) + "."
    )  # fmt: skip
    sections: list[report.Section] = [report.Text("How to read this", text)]
    *by_surface, published = tables
    sections.append(report.Table(published, tables[published]))
    days = np.arange(1, settings.days + 1)
    for title, surface in zip(by_surface, found, strict=True):
        arms, change = found[surface], changed[surface]
        charts = [
            plots.changes_chart(f"{metric}, %", {arm: x[metric] for arm, x in change.items()})
            for metric in HEADLINE
        ]
        caption = "With 95 % intervals over users."
        sections.append(report.Figure(f"{surface}: change against {CONTROL}", charts, caption))
        sections.append(report.Table(title, tables[title]))
        lines = [
            plots.lines_chart(name, "day", days, {a: sums.curves[name] for a, sums in arms.items()})
            for name in arms[CONTROL].curves
        ]
        caption = (
            "Cluster entropy, in bits, of what a user played last: it falls where lists close in "
            "on the user, the filter bubble."
        )
        sections.append(report.Figure(f"{surface}: day by day", lines, caption))
    return sections
