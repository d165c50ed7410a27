"""Experiments on simulated users.

  python -m launch.simulate calibrate

prints the simulated log beside a real one (kuairand-pure-mini under $NEGFLAX_DATA_DIR), and its
dislike rate as asked for and as found.

  python -m launch.simulate responsiveness --workdir=runs/no_signal,runs/input_only,runs/ntr

prints how the lists of trained runs change after a dislike, each folder an arm under its name; runs
in folders seed0, seed1, … within it are its training seeds. All arms see the histories of the first
run's data set. --html=FILE writes a page with charts and single users. With --signal=skip all is
about skips, for logs with few dislikes.

  python -m launch.simulate sensitivity --config=configs/responsiveness.py --workdir=runs/worlds

trains input_only and input_and_label in worlds that differ in one mechanism each; with --notrain it
tells the log's own effect and the ceiling of what can be learned alone.

  python -m launch.simulate live --config=configs/live.py --workdir=runs/live

lets arms serve the platform's users, each retrained on its own log. Arms that are done are kept;
--seeds=0,1,2 repeats it in as many worlds.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import config_flags

from negflax.config import Config, ConfigError, DataConfig, from_config_dict
from negflax.data import open_source
from negflax.evaluate import format_table
from negflax.files import write_json
from negflax.simulate import log_statistics
from negflax.simulate.live.arms import DEFAULT_ARMS
from negflax.simulate.live.live_settings import LiveSettings
from negflax.simulate.responsiveness import Settings
from negflax.simulate.walk import SIGNALS, Plan

from . import flags as shared
from . import live as live_experiment
from . import respond, sensitivity

DISLIKE_RATES = (0.001, 0.01, 0.02, 0.05, 0.07)

CONFIG = config_flags.DEFINE_config_file("config", None, "live, sensitivity: a run.")
WORKDIR = flags.DEFINE_list("workdir", [], "responsiveness: folders of trained runs, the arms.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "latest, best or a step.")
PAIRS = flags.DEFINE_integer("pairs", 2_000, "Pairs of simulated users.", lower_bound=1)
K = flags.DEFINE_integer("k", 50, "The item at which histories branch.", lower_bound=4)
TRAJECTORIES = flags.DEFINE_multi_enum(
    "trajectories",
    ["shared", "own"],
    ["shared", "own"],
    "shared: all arms see the log's histories; own: each consumes its own lists.",
)
SIGNAL = flags.DEFINE_enum("signal", "dislike", SIGNALS, "responsiveness: to what.")
HTML = flags.DEFINE_string("html", "", "live, responsiveness: write the page to this file.")
SURFACES = flags.DEFINE_list("surfaces", ["feed", "home"], "live: where arms serve.")
ARMS = flags.DEFINE_list("arms", list(DEFAULT_ARMS), "live: see negflax/simulate/live/arms.py.")
LIVE = {
    name: flags.DEFINE_integer(name, getattr(LiveSettings, name), f"live: {what}", 1)
    for name, what in (
        ("days", "days of the experiment."),
        ("log_days", "days of the logging platform before it."),
        ("first_steps", "steps of an arm's training before the first day."),
        ("retrain_every", "days between two trainings of an arm on its own log."),
        ("retrain_steps", "steps of each of these."),
    )
}
SEEDS = flags.DEFINE_list("seeds", ["0"], "live: replicates, each a world and training of its own.")
SPLIT = flags.DEFINE_bool("split", LiveSettings.split, "live: arms share the users at random.")
PARAMETERS = flags.DEFINE_list(
    "parameters", list(sensitivity.PARAMETERS), "sensitivity: mechanisms to halve and to double."
)
TRAIN = flags.DEFINE_bool("train", True, "sensitivity: train both arms in every world.")
SEED = flags.DEFINE_integer("seed", 0, "Of pairs, serving and bootstrap.")


def calibrate() -> None:
    """Real beside simulated, and the curve of dislike rates."""
    with tempfile.TemporaryDirectory() as folder:
        real = open_source(Config(data=DataConfig(source="kuairand_mini")), folder)
        world = open_source(Config(), folder)
        rows = log_statistics.compare(*map(log_statistics.describe, (real, world)))
        print(format_table(rows))
        curve = []
        for rate in DISLIKE_RATES:
            config = dataclasses.replace(Config().world, dislike_rate=rate)
            events = open_source(Config(world=config), folder).events
            curve.append({"dislike_rate": rate, "found": float(np.mean(events["dislike"]))})
        print(f"\n{format_table(curve)}")
    if shared.JSON.value:
        write_json(shared.JSON.value, {"calibration": rows, "dislike_curve": curve})


def responsiveness() -> None:
    """Responsiveness of every arm, on shared and on own trajectories."""
    settings = {
        where: Settings(
            PAIRS.value,
            Plan(k=K.value, signal=SIGNAL.value, own=where == "own"),
            seed=SEED.value,
        )
        for where in TRAJECTORIES.value
    }
    respond.run(WORKDIR.value, CHECKPOINT.value, settings, HTML.value)


def serve_live() -> None:
    """Live experiments."""
    if CONFIG.value is None or len(WORKDIR.value) != 1:
        raise ConfigError("live needs --config: a run such as configs/live.py, and one --workdir")
    if not SEEDS.value or not all(seed.isdecimal() for seed in SEEDS.value):
        raise ConfigError(f"--seeds={','.join(SEEDS.value)}: write numbers, such as 0,1,2")
    workdir, seeds = Path(WORKDIR.value[0]), [int(seed) for seed in dict.fromkeys(SEEDS.value)]
    shared.start(workdir / f"seed{seeds[0]}")  # processes of other seeds have caches of their own
    sizes = {name: flag.value for name, flag in LIVE.items()}
    settings = LiveSettings(**sizes, split=SPLIT.value)
    config = from_config_dict(CONFIG.value)
    live_experiment.run(config, workdir, SURFACES.value, ARMS.value, seeds, settings, HTML.value)


def sensitive() -> None:
    """Worlds that differ in one mechanism."""
    if CONFIG.value is None or len(WORKDIR.value) != 1:
        raise ConfigError("sensitivity needs --config: a run, and --workdir: one folder")
    settings = Settings(PAIRS.value, Plan(k=K.value, later=1), seed=SEED.value)
    config = from_config_dict(CONFIG.value)
    sensitivity.run(config, WORKDIR.value[0], settings, TRAIN.value, PARAMETERS.value)


COMMANDS = {
    "calibrate": calibrate,
    "responsiveness": responsiveness,
    "sensitivity": sensitive,
    "live": serve_live,
}


def main(argv: list[str]) -> None:
    """See the module."""
    if len(argv) != 2 or argv[1] not in COMMANDS:
        raise ConfigError(f"python -m launch.simulate {'|'.join(COMMANDS)}: say which")
    COMMANDS[argv[1]]()


if __name__ == "__main__":
    shared.run(main)
