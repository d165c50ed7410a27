"""Functions of launch.sweep that train a grid of settings, or search it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from negflax.config import Config, ConfigError
from negflax.data import Catalogue, Sequences, open_sequences
from negflax.evaluate import Result, evaluation, format_table
from negflax.evaluate.report import html, plots
from negflax.evaluate.report.tabulate import summary_rows
from negflax.files import write_json
from negflax.fitting import mesh_of, train_run
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.sweep import at_most, runs_together, train_population
from negflax.sweep.search import open_study, ranges, search
from negflax.train import plan as planning
from negflax.train.loop import DONE, LOWER_IS_BETTER, open_checkpoints
from negflax.train.restore import Trained, load_trained
from negflax.train.run_config import compare_config

GENEROUS = 2**28  # bytes of a member besides its state, at most; used without the planner


class Sweep(NamedTuple):
    """The flags of launch.sweep.

    Attributes:
      config: settings that all members have in common.
      workdir: folder of the sweep, with a folder for each member.
      mode: `population`, `array` or `sequential`.
      select: validation metric that chooses the best member.
      test: score the best member on the test period.
    """

    config: Config
    workdir: Path
    mode: str
    select: str
    test: bool

    def sequences(self) -> Sequences:
        """Opens the data that all members share."""
        return open_sequences(self.config, self.workdir)


def train_member(sweep: Sweep, runs: Mapping[str, Config], member: int) -> None:
    """Trains a single member, as a task of an array does.

    Raises:
      ConfigError: there is no such member.
    """
    if member >= len(runs):
        raise ConfigError(f"--sweep_member={member}: the sweep has members 0 to {len(runs) - 1}")
    name = list(runs)[member]
    print(f"member {member}: {name}")
    train_run(runs[name], sweep.workdir / name, open_sequences(runs[name], sweep.workdir))


def train_all(sweep: Sweep, runs: Mapping[str, Config], sequences: Sequences) -> None:
    """Trains the members that are not finished.

    Raises:
      ConfigError: settings that one program cannot vary, or members of an array that are missing.
      CheckpointError: the folder has members of other settings.
    """
    for name, one in runs.items():  # existing members, also finished ones, must have these settings
        compare_config(sweep.workdir / name, one)
    missing = {n: one for n, one in runs.items() if not (sweep.workdir / n / DONE).exists()}
    if sweep.mode == "array" and missing:
        raise ConfigError(
            f"{len(missing)} of {len(runs)} members are not trained: {', '.join(missing)}. "
            f"Submit them with python -m launch.submit --array={len(runs)}, or train one with "
            "--sweep_member"
        )
    if sweep.mode == "sequential":
        for name, one in missing.items():
            train_run(one, sweep.workdir / name, open_sequences(one, sweep.workdir))
    if sweep.mode == "population" and missing:
        if different := runs_together(runs):
            raise ConfigError(
                f"{', '.join(different)} cannot differ within one program: choose "
                "--mode=sequential or array"
            )
        names, size = list(missing), together(sweep.config, len(missing), sequences.catalogue)
        for first in range(0, len(names), size):
            part = {name: missing[name] for name in names[first : first + size]}
            train_population(part, sweep.workdir, sequences)


def together(config: Config, members: int, catalogue: Catalogue) -> int:
    """Returns how many members fit into the devices at a time, by the planner.

    Raises:
      ConfigError: not even one fits.
    """
    mesh = mesh_of(config)
    device, limit = mesh.devices.flat[0], 0
    if device.platform == "cpu":
        limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    elif stats := device.memory_stats():
        limit = stats["bytes_limit"]
    sizes = planning.Sizes.of(catalogue)
    values = sum(
        spec.num_rows * spec.width for spec in Recommender(config.model, sizes).tables.values()
    )
    if not limit or members * (16 * 8 * values + GENEROUS) < limit:
        return members
    plan = planning.make_plan(config, sizes, mesh, planning.Machine(1, 1, 1, 0))
    shared = sum(plan.memory[part] for part in ("batch", "related", "sampler"))
    return min(members, at_most(plan.peak, shared, limit))


def judged(
    sweep: Sweep, runs: Mapping[str, Config], sequences: Sequences
) -> dict[str, dict[str, Any]]:
    """Returns the validation metrics of each member's best checkpoint; stores them in valid.json.

    Raises:
      ConfigError: no member was validated.
    """
    found, model = {}, None
    for name, one in runs.items():
        folder = sweep.workdir / name
        path = folder / "valid.json"
        if not path.exists():
            trained = best_of(one, folder, model)
            if trained is None:
                print(f"{name} is left out: it has no validated checkpoint")
                continue
            model = trained.model if one.model == sweep.config.model else None
            metrics = evaluation.evaluate_model(trained, "valid", sequences).metrics
            write_json(path, {"step": trained.step} | metrics)
        found[name] = json.loads(path.read_text())
    if not found:
        raise ConfigError(
            f"{sweep.workdir}: no member was validated: set config.train.eval_every above 0"
        )
    return found


def best_of(config: Config, folder: Path, model: Recommender | None = None) -> Trained | None:
    """Returns the best validated checkpoint, or None."""
    checkpoints = open_checkpoints(config, folder, read_only=True)
    best = checkpoints.best()
    checkpoints.close()
    if best is None:
        return None
    return load_trained(folder, str(best[0]), make_mesh(config.mesh), model)


def report(
    sweep: Sweep, runs: Mapping[str, Config], valid: Mapping[str, Any], sequences: Sequences
) -> dict[str, Any]:
    """Prints the tables, writes sweep.html, and returns the figures by name."""
    sign = -1 if sweep.select.split("@")[0] in LOWER_IS_BETTER else 1
    if sweep.select not in next(iter(valid.values())):
        raise ConfigError(f"--select={sweep.select}: not a metric of the validation period")
    best = max(valid, key=lambda name: sign * valid[name][sweep.select])
    trained = best_of(runs[best], sweep.workdir / best)
    folder, keys = sweep.workdir / best, evaluation.headline_keys(sweep.config.eval.ks)
    baselines = evaluation.evaluate_trained(trained, "valid", folder, sequences)
    names = evaluation.SCORERS[1:]
    tables = {
        "Members, validation period": _rows(valid, keys),
        "Baselines, validation period": summary_rows(baselines.metrics, names, keys),
    }
    figures = {f"valid/{name}/{k}": v for name, m in valid.items() for k, v in m.items()}
    if sweep.test:
        tested: Result = evaluation.evaluate_trained(trained, "test", folder, sequences)
        title = f"{best} (best by {sweep.select}) and the baselines, test period"
        tables[title] = summary_rows(tested.metrics, evaluation.SCORERS, keys)
        figures |= {f"test/{best}/{k}": v for k, v in tested.metrics.items()}
    for title, rows in tables.items():
        print(f"\n{title}\n{format_table(rows)}")
    k = sweep.config.eval.ks[0]
    points = {name: (m[f"hr_p@{k}"], m[f"hr_n@{k}"]) for name, m in valid.items()}
    for name in names:
        point = tuple(
            baselines.metrics.get(evaluation.metric_key(f"{x}@{k}", name, True))
            for x in ("hr_p", "hr_n")
        )
        if None not in point:
            points[name] = point
    sections = [html.Table(title, rows) for title, rows in tables.items()]
    sections.insert(1, html.Figure("Front on validation", [plots.front_chart(points, k)]))
    page = html.write_report(sweep.workdir / "sweep.html", f"{sweep.config.name}: sweep", sections)
    print(f"\nbest by {sweep.select}: {best}, in {folder}; page: {page}")
    return figures | {"best": best, "front": front(points)}


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Returns the names of the points on the front of HR_p and HR_n, ordered by HR_n."""
    kept = [
        name
        for name, (p, n) in points.items()
        if not any(q >= p and m <= n and (q, m) != (p, n) for q, m in points.values())
    ]
    return sorted(kept, key=lambda name: points[name][1])


def run_search(
    sweep: Sweep, values: Mapping[str, list[str]], study: str, trials: int
) -> dict[str, Config]:
    """Trains the trials that Optuna proposes, and returns all trials of the study."""
    sequences, k = sweep.sequences(), sweep.config.eval.ks[0]
    size = together(sweep.config, min(trials, 8), sequences.catalogue)

    def judge(runs: Mapping[str, Config]) -> dict[str, dict[str, float]]:
        train_all(sweep, runs, sequences)
        found = judged(sweep, runs, sequences)
        return {n: {x: m[f"{x}@{k}"] for x in ("hr_p", "hr_n")} for n, m in found.items()}

    opened = open_study(sweep.workdir, study, sweep.config.train.seed)
    return search(opened, sweep.config, ranges(values), (trials, size), judge)


def _rows(valid: Mapping[str, Any], keys: list[str]) -> list[dict[str, Any]]:
    rows = []
    for name, metrics in valid.items():
        (row,) = summary_rows(metrics, [evaluation.MODEL], keys)
        rows.append({"member": name} | {k: v for k, v in row.items() if k != "scorer"})
    return rows
