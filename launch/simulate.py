"""Experiments on simulated users.

  python -m launch.simulate calibrate

compares statistics of the simulated logs with those of a real one (kuairand-pure-mini under
$NEGFLAX_DATA_DIR), and the requested dislike rates with the simulated ones.

  python -m launch.simulate responsiveness --workdir=runs/no_signal,runs/input_only,runs/ntr

measures how the lists of trained runs change after a dislike. Each folder is an arm, named after
the folder; runs in its folders seed0, seed1, … are its training seeds. All arms see the histories
of the first run's data set. --html=FILE writes a page with charts and example users. --signal=skip
measures the response to skips instead, for logs with few dislikes. --personal measures baselines
that train nothing as further arms: negative examples, item rates, the calibration, and both.

  python -m launch.simulate sensitivity --config=configs/responsiveness.py --workdir=runs/varied

trains the arms input_only and input_and_label in worlds that each differ in one mechanism, and
calibrates them if the config says so. With --notrain it reports only the effect in the log itself
and the ideal observer's, the upper bound.

  python -m launch.simulate worlds --config=configs/responsiveness.py --workdir=runs/worlds \
    --seeds=0,1,2,3,4 --world_seeds=0,1

trains both arms in every named world (docs/world.md), calibrates them by feedback counts, and
measures what share of the ideal observer's response they reach. A repeated command goes on.

  python -m launch.simulate live --config=configs/live.py --workdir=runs/live

lets each arm serve the users of the platform and retrains it on its own log. A repeated command
skips the finished arms; --seeds=0,1,2 repeats the experiment in three worlds.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import config_flags

from negflax.config import Config, ConfigError, DataConfig, WorldConfig, from_config_dict
from negflax.data import open_source
from negflax.evaluate import format_table
from negflax.files import write_json
from negflax.simulate import log_statistics
from negflax.simulate.live.arms import DEFAULT_ARMS
from negflax.simulate.live.live_settings import LiveSettings
from negflax.simulate.responsiveness import Settings
from negflax.simulate.walk import SIGNALS, Plan
from negflax.world import NAMED_WORLDS

from . import flags as shared
from . import live as live_experiment
from . import respond, sensitivity
from . import worlds as named_worlds

DISLIKE_RATES = (0.001, 0.01, 0.02, 0.05, 0.07)

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "live, sensitivity, worlds: one of configs/*.py."
)
WORKDIR = flags.DEFINE_list(
    "workdir",
    [],
    "responsiveness: folders of trained runs, one per arm; live, sensitivity, worlds: the working "
    "folder.",
)
CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "best", "responsiveness: which checkpoint: latest, best or a step number."
)
PAIRS = flags.DEFINE_integer("pairs", 2_000, "Number of pairs of simulated users.", lower_bound=1)
K = flags.DEFINE_integer("k", 50, "Number of the item at which histories branch.", lower_bound=4)
TRAJECTORIES = flags.DEFINE_multi_enum(
    "trajectories",
    ["shared", "own"],
    ["shared", "own"],
    "responsiveness: shared: all arms see the histories of the log; own: the users of each arm "
    "consume that arm's lists.",
)
SIGNAL = flags.DEFINE_enum(
    "signal", "dislike", SIGNALS, "responsiveness: the signal that the lists should respond to."
)
PERSONAL = flags.DEFINE_bool(
    "personal", False, "responsiveness: baselines that react to dislikes and train nothing too."
)
HTML = flags.DEFINE_string("html", "", "live, responsiveness: write the HTML page to this file.")
SURFACES = flags.DEFINE_list("surfaces", ["feed", "home"], "live: surfaces that the arms serve.")
ARMS = flags.DEFINE_list(
    "arms", list(DEFAULT_ARMS), "live: arms to run, of those in negflax/simulate/live/arms.py."
)
LIVE = {
    name: flags.DEFINE_integer(name, getattr(LiveSettings, name), f"live: {what}", 1)
    for name, what in (
        ("days", "length of the experiment in days."),
        ("log_days", "days served by the logging platform before the experiment."),
        ("first_steps", "training steps of an arm before the first day."),
        ("retrain_every", "days between two retrainings of an arm on its own log."),
        ("retrain_steps", "training steps of each retraining."),
    )
}
SEEDS = flags.DEFINE_list(
    "seeds",
    ["0"],
    "live: seeds of the replicates; each seeds the world and the training. worlds: of training.",
)
WORLD_SEEDS = flags.DEFINE_list("world_seeds", ["0"], "worlds: seeds of the simulated platforms.")
WORLDS = flags.DEFINE_list(
    "worlds", list(NAMED_WORLDS), "worlds, calibrate: named worlds (docs/world.md)."
)
SPLIT = flags.DEFINE_bool(
    "split", LiveSettings.split, "live: divide the users among the arms at random."
)
PARAMETERS = flags.DEFINE_list(
    "parameters", list(sensitivity.PARAMETERS), "sensitivity: mechanisms to halve and to double."
)
TRAIN = flags.DEFINE_bool("train", True, "sensitivity: train both arms in every world.")
SEED = flags.DEFINE_integer(
    "seed", 0, "responsiveness, sensitivity, worlds: seed of the pairs and of the bootstrap."
)


def calibrate() -> None:
    """Compares simulated logs with a real one, and requested with simulated dislike rates."""
    with tempfile.TemporaryDirectory() as folder:
        real = open_source(Config(data=DataConfig(source="kuairand_mini")), folder)
        logs = {"real": log_statistics.describe(real)}
        for name in WORLDS.value:
            config = Config(world=WorldConfig(name=name))
            logs[name] = log_statistics.describe(open_source(config, folder))
        rows = log_statistics.compare(logs)
        print(format_table([{key: _shown(x) for key, x in row.items()} for row in rows]))
        curve = []
        for rate in DISLIKE_RATES:
            config = dataclasses.replace(Config().world, dislike_rate=rate)
            events = open_source(Config(world=config), folder).events
            curve.append({"dislike_rate": rate, "found": float(np.mean(events["dislike"]))})
        print(f"\n{format_table(curve)}")
    if shared.JSON.value:
        write_json(shared.JSON.value, {"calibration": rows, "dislike_curve": curve})


def _shown(x: object) -> object:
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*x) if isinstance(x, tuple) else x


def responsiveness() -> None:
    """Measures the responsiveness of every arm, on shared and on own trajectories."""
    settings = {
        where: Settings(
            PAIRS.value,
            Plan(k=K.value, signal=SIGNAL.value, own=where == "own"),
            seed=SEED.value,
        )
        for where in TRAJECTORIES.value
    }
    respond.run(WORKDIR.value, CHECKPOINT.value, settings, HTML.value, PERSONAL.value)


def serve_live() -> None:
    """Runs the live experiments."""
    if CONFIG.value is None or len(WORKDIR.value) != 1:
        raise ConfigError("live needs --config, such as configs/live.py, and one --workdir")
    workdir, seeds = Path(WORKDIR.value[0]), _numbers(SEEDS)
    shared.start(workdir / f"seed{seeds[0]}")  # processes of other seeds have caches of their own
    sizes = {name: flag.value for name, flag in LIVE.items()}
    settings = LiveSettings(**sizes, split=SPLIT.value)
    config = from_config_dict(CONFIG.value)
    live_experiment.run(config, workdir, SURFACES.value, ARMS.value, seeds, settings, HTML.value)


def sensitive() -> None:
    """Measures responsiveness in worlds that each differ in one mechanism."""
    if CONFIG.value is None or len(WORKDIR.value) != 1:
        raise ConfigError(
            "sensitivity needs --config, such as configs/responsiveness.py, and one --workdir"
        )
    settings = Settings(PAIRS.value, Plan(k=K.value, later=1), seed=SEED.value)
    config = from_config_dict(CONFIG.value)
    sensitivity.run(config, WORKDIR.value[0], settings, TRAIN.value, PARAMETERS.value)


def in_worlds() -> None:
    """Trains, calibrates and measures in named worlds."""
    if CONFIG.value is None or len(WORKDIR.value) != 1:
        raise ConfigError(
            "worlds needs --config, such as configs/responsiveness.py, and one --workdir"
        )
    settings = Settings(PAIRS.value, Plan(k=K.value, later=1), seed=SEED.value)
    config, workdir = from_config_dict(CONFIG.value), Path(WORKDIR.value[0])
    seeds, world_seeds = _numbers(SEEDS), _numbers(WORLD_SEEDS)
    named_worlds.run(config, workdir, WORLDS.value, world_seeds, seeds, settings)


def _numbers(flag: flags.FlagHolder) -> list[int]:
    """Returns the distinct numbers of a flag.

    Raises:
      ConfigError: it has none, or something else.
    """
    if not flag.value or not all(x.isdecimal() for x in flag.value):
        raise ConfigError(f"--{flag.name}={','.join(flag.value)}: write numbers, such as 0,1,2")
    return [int(x) for x in dict.fromkeys(flag.value)]


COMMANDS = {
    "calibrate": calibrate,
    "responsiveness": responsiveness,
    "sensitivity": sensitive,
    "worlds": in_worlds,
    "live": serve_live,
}


def main(argv: list[str]) -> None:
    """See the module."""
    if len(argv) != 2 or argv[1] not in COMMANDS:
        raise ConfigError(
            f"name one command: python -m launch.simulate {'|'.join(COMMANDS)} --flag=…"
        )
    COMMANDS[argv[1]]()


if __name__ == "__main__":
    shared.run(main)
