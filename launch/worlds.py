"""`launch.simulate worlds`: all arms in every named world, their calibration, and its effect.

<workdir>/<world>/world<seed of the world>/<arm>/seed<seed of training> holds a run. A repeated
command goes on where the last one stopped: it trains what is not trained, calibrates what is not
calibrated, and measures the worlds whose runs or settings have changed.

`input_then_label` is the model of `input_only`, not trained again: dislikes are labels of its
calibration alone.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import logging

from negflax.calibration import load_calibrated, read_calibration
from negflax.calibration.stored_calibration import FILE
from negflax.config import Config, ConfigError, MeshConfig
from negflax.data import open_sequences
from negflax.evaluate import format_table
from negflax.files import write_json
from negflax.fitting import calibrate_run, train_run
from negflax.mesh import make_mesh
from negflax.simulate import ceiling
from negflax.simulate.measures import KINDS
from negflax.simulate.pair_bootstrap import ENDS
from negflax.simulate.responsiveness import Settings, histories
from negflax.simulate.terms_kept import with_terms
from negflax.train.loop import DONE
from negflax.train.restore import load_weight_sums
from negflax.train.run_config import CONFIG, compare_config, write_config
from negflax.world import NAMED_WORLDS

from . import flags as shared
from . import respond
from .arm_runs import SEED_FOLDER, World

TRAINED = {"input_only": "ssm", "input_and_label": "ntr"}  # arm → its objective
AFTERWARDS, MODEL = "input_then_label", "input_only"  # labels of the calibration; whose model
ARMS = (*TRAINED, AFTERWARDS)
# What each trained arm is measured with: its calibration, and none.
VARIANTS: dict[str, Callable[[str], bool]] = {
    "": lambda scalar: True,
    "/alone": lambda scalar: False,
}
RESULT = "result.json"  # in the folder of a world: what was measured, and of which runs


def run(
    config: Config,
    workdir: Path,
    names: Sequence[str],
    world_seeds: Sequence[int],
    seeds: Sequence[int],
    settings: Settings,
) -> None:
    """Trains, calibrates and measures; prints and writes the table of all worlds.

    Args:
      config: sizes of the worlds and training; each arm sets the objective.
      workdir: folder of the experiment.
      names: worlds, of negflax/world/named_worlds.py.
      world_seeds: seeds of the worlds.
      seeds: seeds of training.
      settings: pairs, on shared trajectories.

    Raises:
      ConfigError: a world is unknown, or none is named.
      CheckpointError: a run in the folder has another config.
      DataError: no user of a world has a history as long as the pairs need.
    """
    unknown = [name for name in names if name not in NAMED_WORLDS]
    if unknown or not names:
        said = f"unknown {unknown}" if unknown else "none is named"
        raise ConfigError(f"--worlds: {said}; choose from {', '.join(NAMED_WORLDS)}")
    shared.start(workdir)
    for seed in seeds:
        for world_seed in world_seeds:
            for name in names:
                _train(config, workdir / name, name, world_seed, seed, settings)
    rows, named = [], {}
    for name in names:
        found = _measured(workdir / name, world_seeds, seeds, settings)
        rows += [{"world": name} | row for row in found["rows"]]
        named |= {f"{name}/{key}": x for key, x in found["named"].items()}
        print(f"\n{format_table(rows)}")
    write_json(shared.JSON.value or workdir / "worlds.json", named | {"rows": rows})


def _config_of(config: Config, name: str, world_seed: int, arm: str, seed: int) -> Config:
    """Returns the config of a run; runs of one world share its log."""
    return dataclasses.replace(
        config,
        name=arm,
        world=dataclasses.replace(config.world, name=name, seed=world_seed),
        train=dataclasses.replace(config.train, seed=seed),
        loss=dataclasses.replace(config.loss, objective=TRAINED.get(arm, TRAINED[MODEL])),
        calibration=dataclasses.replace(
            config.calibration, omega=config.loss.omega if arm == AFTERWARDS else 0.0
        ),
    )


def _train(
    config: Config, folder: Path, name: str, world_seed: int, seed: int, settings: Settings
) -> None:
    """Trains and calibrates the arms of one world and seed, as far as that is not done."""
    home, sequences = folder / f"world{world_seed}", None
    for arm in ARMS:
        run_folder = home / arm / f"{SEED_FOLDER}{seed}"
        one = _config_of(config, name, world_seed, arm, seed)
        one = dataclasses.replace(
            one, data=dataclasses.replace(one.data, cache_dir=str(home / "data"))
        )
        compare_config(run_folder, one)
        trained = (run_folder / DONE).exists()
        if trained and read_calibration(run_folder) is not None:
            continue
        if sequences is None:
            sequences = open_sequences(one, home)
            histories(sequences, settings)  # that the pairs can be drawn in the end
        if not trained and arm == AFTERWARDS:
            _copy_run(home / MODEL / run_folder.name, run_folder, one)
        elif not trained:
            train_run(one, run_folder, sequences)
        found = calibrate_run(run_folder, "latest", sequences).calibration
        logging.info("%s: calibrated\n%s", run_folder, format_table(found.report["rows"]))


def _copy_run(run: Path, copy: Path, config: Config) -> None:
    """Makes a trained run that of another config, without its calibration; whole or not at all."""
    part = copy.with_name(f".{copy.name}")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(run, part, ignore=shutil.ignore_patterns(CONFIG, FILE))
    write_config(part, config)
    part.rename(copy)


def _measured(
    folder: Path, world_seeds: Sequence[int], seeds: Sequence[int], settings: Settings
) -> dict[str, Any]:
    """Returns what was measured in a world, as it is stored if nothing has changed since."""
    runs = [
        folder / f"world{world_seed}" / arm / f"{SEED_FOLDER}{seed}"
        for world_seed in world_seeds
        for arm in ARMS
        for seed in seeds
    ]
    asked = {
        "observer": ceiling.VERSION,
        "settings": dataclasses.asdict(settings),
        "calibrations": {
            str(run.relative_to(folder)): read_calibration(run).values for run in runs
        },
    }
    asked = json.loads(json.dumps(asked))  # tuples become lists, as in the stored file
    path = folder / RESULT
    kept = json.loads(path.read_text()) if path.exists() else {}
    if kept.get("asked") != asked:
        worlds = [_world(folder / f"world{number}", seeds) for number in world_seeds]
        kept = {"asked": asked} | _figures(worlds, settings)
        write_json(path, kept)
    return kept


def _world(home: Path, seeds: Sequence[int]) -> World:
    """Loads the runs of one world, each with its calibration and without."""
    mesh, runs, weights, model = make_mesh(MeshConfig(), jax.devices()[:1]), {}, {}, None
    for arm in ARMS:
        found, w = [], []
        for seed in seeds:
            folder = home / arm / f"{SEED_FOLDER}{seed}"
            found.append(load_calibrated(folder, "latest", mesh, model))
            model = found[0].model if model is None else model
            sums = load_weight_sums(folder, "latest", mesh)
            w.append(ceiling.frozen_weight(found[-1], sums))
        for variant, keeps in VARIANTS.items():
            if variant and arm == AFTERWARDS:
                continue
            runs[f"{arm}{variant}"] = [
                dataclasses.replace(one, calibration=with_terms(one.calibration, keeps))
                for one in found
            ]
            weights[f"{arm}{variant}"] = sum(w) / len(w)
    first = next(iter(runs.values()))[0]
    return World(open_sequences(first.config, home, first.catalogue), runs, weights)


def _figures(worlds: Sequence[World], settings: Settings) -> dict[str, Any]:
    """Measures the arms of one world; rows are by arm, part of the calibration and kind."""
    found = respond.measure(worlds, {"shared": settings})
    named = {key: respond.or_null(x) for key, x in found["named"].items()}
    hr_p, hr_n = (
        next(key for key in named if key.startswith(of)).split("/")[0] for of in ("hr_p@", "hr_n@")
    )
    rows = []
    for arm in worlds[0].runs:
        for kind in KINDS:
            rows.append(
                {"arm": arm, "kind": kind, "w": named[f"w/{arm}"]}
                | {
                    what: _interval([named[f"{what}/{arm}/{kind}{end}"] for end in ENDS])
                    for what in ("responsiveness", "mass", "ceiling", "share", "mass_share")
                }
                | {hr_p: named[f"{hr_p}/{arm}"], "cost": named[f"hr_p_cost/{arm}"]}
                | {hr_n: named[f"{hr_n}/{arm}"]}
                | {"runs": sum(len(world.runs[arm]) for world in worlds)}
            )
    return {"rows": rows, "named": named}


def _interval(found: Sequence[float | None]) -> str:
    return "–" if None in found else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*found)
