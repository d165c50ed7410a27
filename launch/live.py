"""Live experiments on the simulated platform: runs every arm on every surface and reports.

<workdir>/seed<r> holds replicate r. A finished arm writes its sums over users to
figures/<surface>-<arm>.npz there, and its metrics to a JSON file beside it. A repeated command
skips the finished arms. Several processes may share one working folder if each has its own --seeds.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging

from negflax.config import Config, ConfigError
from negflax.config import to_dict as config_dict
from negflax.evaluate import format_table
from negflax.evaluate.report import html
from negflax.files import plain, write_arrays, write_json
from negflax.simulate.live import closed_loop as live
from negflax.simulate.live import live_report, user_metrics
from negflax.simulate.live.arms import ARMS, CONTROL
from negflax.simulate.live.live_settings import LiveSettings, replicate
from negflax.simulate.live.served_models import Models
from negflax.simulate.live.user_metrics import METRICS, Sums
from negflax.world.environment import SURFACES

from . import flags as shared

EXPERIMENT = "experiment.json"  # config and settings of the experiment in the working folder


def run(
    config: Config,
    workdir: Path,
    surfaces: Sequence[str],
    arms: Sequence[str],
    seeds: Sequence[int],
    settings: LiveSettings,
    html_path: str,
) -> None:
    """Runs the arms that are not finished, then prints and writes the results of all.

    Raises:
      ConfigError: an arm or surface is unknown, or the folder holds another experiment.
    """
    for flag, given, known in (("arms", arms, ARMS), ("surfaces", surfaces, SURFACES)):
        if unknown := [name for name in given if name not in known]:
            raise ConfigError(f"--{flag}: unknown {unknown}; choose from {', '.join(known)}")
    arms = [CONTROL, *(name for name in dict.fromkeys(arms) if name != CONTROL)]
    _claim(workdir, config, settings, arms)
    _serve(config, workdir, surfaces, arms, seeds, settings)
    all_found = [
        live_report.find(
            surface, arms, [{a: _load(_path(workdir, s, surface, a)) for a in arms} for s in seeds]
        )
        for surface in surfaces
    ]
    tables = live_report.tables(all_found)
    for title, rows in tables.items():
        print(f"\n{title}\n{format_table(rows)}")
    if sentence := live_report.personal_sentence(all_found):
        print(f"\n{sentence}")
    sizes = {"users": config.world.num_users, "days": settings.days, "seeds": list(seeds)}
    outcome = sizes | live_report.figures(all_found) | {"tables": tables}
    write_json(shared.JSON.value or workdir / "live.json", plain(outcome))
    page = html.write_report(
        html_path or workdir / "live.html",
        f"{config.name}: arms that use dislikes differently",
        live_report.sections(config, settings, all_found, tables),
    )
    print(f"\npage: {page}")


def _serve(
    config: Config,
    workdir: Path,
    surfaces: Sequence[str],
    arms: Sequence[str],
    seeds: Sequence[int],
    settings: LiveSettings,
) -> None:
    """Runs every arm that has no result file yet."""
    missing = [
        (seed, surface, arm)
        for seed in seeds
        for surface in surfaces
        for arm in arms
        if not _path(workdir, seed, surface, arm).exists()
    ]
    begun, done, prepared = time.monotonic(), 0, None
    for seed, surface, arm in missing:
        if seed != prepared:
            start = live.prepare(replicate(config, seed), settings)
            folder = workdir / f"seed{seed}"
            models = Models(start.config, settings, start.log, start.catalogue, folder)
            prepared = seed

        on_day_end = functools.partial(
            _report_progress, (seed, arm, surface), settings.days, done, len(missing), begun
        )
        sums = live.run_arm(arm, surface, (arms.index(arm), len(arms)), start, models, on_day_end)
        _save(_path(workdir, seed, surface, arm), sums)
        done += 1


def _report_progress(
    names: tuple[int, str, str], days: int, done: int, arms: int, begun: float, day: int
) -> None:
    share = done + (day + 1) / days
    left = (arms - share) * (time.monotonic() - begun) / share
    message = "seed %d, %s on %s: day %d of %d, arm %d of %d, ETA %.0f min"
    logging.info(message, *names, day + 1, days, done + 1, arms, left / 60)


def _path(workdir: Path, seed: int, surface: str, arm: str) -> Path:
    return workdir / f"seed{seed}" / "figures" / f"{surface}-{arm}.npz"


def _claim(workdir: Path, config: Config, settings: LiveSettings, arms: Sequence[str]) -> None:
    """Records the experiment in the folder; arms may be added later unless they share the users.

    Raises:
      ConfigError: the folder holds an experiment with other settings.
    """
    kept = {"config": config_dict(config), "settings": dataclasses.asdict(settings)}
    if settings.split:
        kept["arms"] = list(arms)
    kept = json.loads(json.dumps(kept))
    path = workdir / EXPERIMENT
    if path.exists() and json.loads(path.read_text()) != kept:
        raise ConfigError(
            f"{workdir} holds an experiment with other settings: use another --workdir, or delete "
            "that one"
        )
    write_json(path, kept)


def _save(path: Path, sums: Sums) -> None:
    parts = {
        f"{part}/{name}": x for part, named in sums._asdict().items() for name, x in named.items()
    }
    levels = {metric: user_metrics.level(sums, metric) for metric in METRICS}
    write_json(path.with_suffix(".json"), plain(levels))
    write_arrays(path, parts)


def _load(path: Path) -> Sums:
    parts: dict[str, dict[str, np.ndarray]] = {name: {} for name in Sums._fields}
    with np.load(path) as file:
        for name in file.files:
            part, metric = name.split("/")
            parts[part][metric] = file[name]
    return Sums(**parts)
