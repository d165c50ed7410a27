"""Experiments on simulated users.

  python -m launch.simulate calibrate

prints the simulated log beside a real one (kuairand-pure-mini under $NEGFLAX_DATA_DIR), and its
dislike rate as asked for and as found.

  python -m launch.simulate responsiveness --workdir=runs/no_signal,runs/input_only,runs/ntr

prints how the lists of trained runs change after a dislike, each run an arm under its folder's
name. All arms see the histories of the first run's data set.

  python -m launch.simulate live --config=configs/live.py --workdir=runs/live

lets arms serve the platform's users, each retrained on its own log. Arms that are done are kept.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import config_flags

from launch import flags as shared
from launch import live as live_experiment
from negflax.config import Config, ConfigError, DataConfig, MeshConfig, from_config_dict
from negflax.data import open_sequences, open_source
from negflax.evaluate import format_table
from negflax.files import write_json
from negflax.mesh import make_mesh
from negflax.simulate import calibration, live, pairs, responsiveness
from negflax.simulate.live_arms import DEFAULT_ARMS
from negflax.simulate.walk import Plan
from negflax.train.restore import load_trained

DISLIKE_RATES = (0.001, 0.01, 0.02, 0.05, 0.07)

CONFIG = config_flags.DEFINE_config_file("config", None, "live: one of configs/*.py.")
WORKDIR = flags.DEFINE_list("workdir", [], "responsiveness: folders of trained runs, the arms.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "latest, best or a step.")
PAIRS = flags.DEFINE_integer("pairs", 2_000, "Pairs of simulated users.", lower_bound=1)
K = flags.DEFINE_integer("k", 50, "The item at which histories branch.", lower_bound=4)
TRAJECTORIES = flags.DEFINE_multi_enum(
    "trajectories", ["shared", "own"], ["shared", "own"],
    "shared: all arms see the log's histories; own: each consumes its own lists.",
)  # fmt: skip
HTML = flags.DEFINE_string("html", "", "live: write the page to this file.")
SURFACES = flags.DEFINE_list("surfaces", ["feed", "home"], "live: where arms serve.")
ARMS = flags.DEFINE_list("arms", list(DEFAULT_ARMS), "live: see negflax/simulate/live_arms.py.")
LIVE = {
    name: flags.DEFINE_integer(name, getattr(live.Settings, name), f"live: {what}", lower_bound=1)
    for name, what in (
        ("days", "days of the experiment."),
        ("log_days", "days of the logging platform before it."),
        ("first_steps", "steps of an arm's training before the first day."),
        ("retrain_every", "days between two trainings of an arm on its own log."),
        ("retrain_steps", "steps of each of these."),
    )
}
SPLIT = flags.DEFINE_bool("split", live.Settings.split, "live: arms share the users at random.")
SEED = flags.DEFINE_integer("seed", 0, "Of pairs, serving and bootstrap.")


def calibrate() -> None:
    """Real beside simulated, and the curve of dislike rates."""
    with tempfile.TemporaryDirectory() as folder:
        real = open_source(Config(data=DataConfig(source="kuairand_mini")), folder)
        world = open_source(Config(), folder)
        rows = calibration.compare(*map(calibration.describe, (real, world)))
        print(format_table(rows))
        curve = []
        for rate in DISLIKE_RATES:
            config = dataclasses.replace(Config().world, dislike_rate=rate)
            events = open_source(Config(world=config), folder).events
            curve.append({"dislike_rate": rate, "found": float(np.mean(events["dislike"]))})
        print(f"\n{format_table(curve)}")
    if shared.JSON.value:
        write_json(shared.JSON.value, {"calibration": rows, "dislike_curve": curve})


def respond() -> None:
    """Responsiveness of every arm, on shared and on own trajectories."""
    if not WORKDIR.value:
        raise ConfigError("responsiveness needs --workdir: folders of trained runs, by commas")
    workdirs = [Path(part) for part in WORKDIR.value]
    shared.start(workdirs[0])
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    arms = [load_trained(folder, CHECKPOINT.value, mesh) for folder in workdirs]
    names = [folder.name for folder in workdirs]
    if len(set(names)) < len(names):
        raise ConfigError(f"--workdir: two folders have one name of {', '.join(names)}")
    catalogue = arms[0].catalogue
    sequences = open_sequences(arms[0].config, workdirs[0], catalogue)
    table, named = [], {}
    for where in TRAJECTORIES.value:
        settings = responsiveness.Settings(
            pairs=PAIRS.value, plan=Plan(k=K.value, own=where == "own"), seed=SEED.value
        )
        for name, arm in zip(names, arms, strict=True):
            if not np.array_equal(arm.catalogue.item_ids, catalogue.item_ids):
                raise ConfigError(
                    f"{name} and {names[0]} know different items: compare runs that were trained "
                    "on one data set with equal config.data"
                )
            outcome = responsiveness.simulate(arm, sequences, settings)
            rows = responsiveness.measure(outcome.found, catalogue, settings)
            table += [{"trajectories": where, "arm": name, **row} for row in rows]
            label = name if where == "shared" else f"{name}/own"
            named |= responsiveness.figures(label, rows)
            named[f"pairs_per_second/{label}"] = outcome.pairs_per_second
    named["pairs_per_second"] = float(
        np.mean([v for key, v in named.items() if key.startswith("pairs_per_second/")])
    )
    print(format_table([_short(row) for row in table if _headline(row)]))
    for kind, kind_V in responsiveness.kinds_of(catalogue).items():
        found = pairs.log_effect(sequences, kind_V, settings.resamples, settings.seed)
        random = responsiveness.chances(outcome.found, catalogue)[kind]
        named |= {f"log_effect/{kind}{end}": x for end, x in zip(ENDS, found, strict=True)}
        named[f"chance/{kind}"] = random
        print(f"\n{kind}: in the log itself {_interval(found)}; a random list's {random:.4f}")
    print(f"{named['pairs_per_second']:,.0f} pairs a second, compilation apart")
    out = shared.JSON.value or workdirs[0] / "responsiveness.json"
    rows = [{key: _or_null(x) for key, x in row.items()} for row in table]
    write_json(out, {key: _or_null(x) for key, x in named.items()} | {"rows": rows})


def serve_live() -> None:
    """Live experiments."""
    if CONFIG.value is None or len(WORKDIR.value) != 1:
        raise ConfigError("live needs --config: a run such as configs/live.py, and one --workdir")
    workdir = Path(WORKDIR.value[0])
    shared.start(workdir)
    sizes = {name: flag.value for name, flag in LIVE.items()}
    settings = live.Settings(**sizes, split=SPLIT.value, seed=SEED.value)
    config = from_config_dict(CONFIG.value)
    live_experiment.run(config, workdir, SURFACES.value, ARMS.value, settings, HTML.value)


ENDS = ("", "_low", "_high")


def _or_null(x: Any) -> Any:
    """JSON knows no infinity: nothing of a kind was listed without the dislike, so no ratio."""
    return None if isinstance(x, float) and not math.isfinite(x) else x


def _headline(row: dict[str, Any]) -> bool:
    steps = ("k+5", "k+10", "k+20")
    return row["K"] == 10 and (not row["what"].startswith("k+") or row["what"] in steps)


def _short(row: dict[str, Any]) -> dict[str, Any]:
    kept = {key: row[key] for key in ("trajectories", "arm", "what", "kind", "before", "after")}
    return kept | {"change": _interval([row[f"change{end}"] for end in ENDS]), "n": row["n"]}


def _interval(found: Any) -> str:
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*found)


COMMANDS = {"calibrate": calibrate, "responsiveness": respond, "live": serve_live}


def main(argv: list[str]) -> None:
    """See the module."""
    if len(argv) != 2 or argv[1] not in COMMANDS:
        raise ConfigError(f"python -m launch.simulate {'|'.join(COMMANDS)}: say which")
    COMMANDS[argv[1]]()


if __name__ == "__main__":
    shared.run(main)
