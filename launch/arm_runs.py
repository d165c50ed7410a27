"""The runs of an experiment, by arm and world.

Folders are named <arm>/seed<number>, in world<number> where there are several worlds.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from negflax.calibration import load_calibrated
from negflax.config import ConfigError, MeshConfig, WorldConfig
from negflax.data import Sequences, open_sequences
from negflax.evaluate.baselines.personal_scores import CALIBRATED, Adjustment
from negflax.mesh import make_mesh
from negflax.simulate import ceiling
from negflax.train.restore import Trained, load_weight_sums
from negflax.train.run_config import read_config

SEED_FOLDER = "seed"  # runs of one arm that differ in their training seed: <arm>/seed0, seed1, …


@dataclasses.dataclass(frozen=True)
class World:
    """The runs of all arms on one log.

    Attributes:
      sequences: the log.
      runs: arm → its runs, one per training seed.
      weights: arm → the mean weight of dislikes in these runs (ceiling.py), None if unknown.
      own_weights: the same of the runs' own objectives, without their calibrations'.
      added: arm → what is added to the scores of each run; by default its calibration.
    """

    sequences: Sequences
    runs: dict[str, list[Trained]]
    weights: dict[str, float | None]
    own_weights: dict[str, float | None] = dataclasses.field(default_factory=dict)
    added: dict[str, list[Adjustment]] = dataclasses.field(default_factory=dict)

    def adjusted(self, arm: str) -> list[tuple[Trained, Adjustment]]:
        """The runs of an arm, each with what is added to its scores."""
        runs = self.runs[arm]
        return list(zip(runs, self.added.get(arm, [CALIBRATED] * len(runs)), strict=True))

    @property
    def config(self) -> WorldConfig | None:
        """Settings of the simulated platform; None for another log."""
        config = next(iter(self.runs.values()))[0].config
        return config.world if config.data.source == "synthetic" else None

    @property
    def label(self) -> str:
        """The world by name, with what differs from it."""
        if self.config is None:
            return next(iter(self.runs.values()))[0].config.data.source
        switches = {"dislikes": "random", "platform_reacts": True}
        changed = [k for k, value in switches.items() if getattr(self.config, k) == value]
        return ", ".join([self.config.name, *changed, *self.config.parameters])


def arms_of(folders: Sequence[str]) -> dict[str, list[Path]]:
    """Returns for each arm the folders of its runs, one per seed.

    An arm is named after its folder. Runs in folders `seed0`, `seed1`, … belong to the arm named
    after their parent folder; that folder may be given in place of the runs. Folders of one name in
    folders `world0`, `world1`, … are one arm in several worlds.

    Raises:
      ConfigError: two arms have the same name.
    """
    arms: dict[str, list[Path]] = {}
    homes: dict[str, Path] = {}
    for folder in map(Path, folders):
        seeds = sorted(folder.glob(f"{SEED_FOLDER}[0-9]*"))
        is_arm = seeds and not (folder / "config.json").exists()
        is_seed = bool(re.fullmatch(rf"{SEED_FOLDER}\d+", folder.name))
        of_arm = folder.parent if is_seed else folder
        arm = of_arm.name
        if arm in arms and not (is_seed and arms[arm][0].parent == folder.parent):
            both = of_arm.parent, homes[arm].parent
            if not all(re.fullmatch(r"world\d+", x.name) for x in both) or len(set(both)) == 1:
                raise ConfigError(
                    f"--workdir: two folders are named {arm}, and arms are named after their "
                    "folders: rename one"
                )
        homes[arm] = of_arm
        arms[arm] = [*arms.get(arm, []), *(seeds if is_arm else [folder])]
    return arms


def worlds_of(arms: Mapping[str, Sequence[Path]], checkpoint: str) -> list[World]:
    """Loads the runs, one world for each seed of the simulated platform.

    Raises:
      ConfigError: the runs are of different worlds, an arm lacks a world that another has, or runs
        of a world have different catalogues.
    """
    by_seed: dict[int, dict[str, list[Path]]] = {}
    settings: dict[WorldConfig | None, Path] = {}  # but for the seed → the first such run
    for arm, folders in arms.items():
        for folder in folders:
            config = read_config(folder)
            simulated = config.data.source == "synthetic"
            seed = config.world.seed if simulated else 0
            by_seed.setdefault(seed, {}).setdefault(arm, []).append(folder)
            settings.setdefault(
                dataclasses.replace(config.world, seed=0) if simulated else None, folder
            )
    if len(settings) > 1:
        one, other = list(settings.values())[:2]
        raise ConfigError(
            f"{one} and {other} are of different worlds (config.world): compare runs of one world, "
            "with any seeds"
        )
    worlds = []
    for seed, of_arms in by_seed.items():
        if missing := [arm for arm in arms if arm not in of_arms]:
            raise ConfigError(
                f"{', '.join(missing)}: no run in the world of seed {seed}, in which "
                f"{', '.join(of_arms)} was trained: train one, or leave that world out"
            )
        runs, weights, own_weights = {}, {}, {}
        for arm, folders in of_arms.items():
            runs[arm] = load_arm(folders, checkpoint)
            weights[arm] = _mean_weight(runs[arm], folders, checkpoint)
            alone = [dataclasses.replace(one, calibration=None) for one in runs[arm]]
            own_weights[arm] = _mean_weight(alone, folders, checkpoint)
        first_arm, first = next(iter(runs.items()))
        catalogue = first[0].catalogue
        for name, seeds in runs.items():
            if any(not np.array_equal(x.catalogue.item_ids, catalogue.item_ids) for x in seeds):
                raise ConfigError(
                    f"{name} and {first_arm} have different catalogues: compare runs that were "
                    "trained on the same data set with equal config.data"
                )
        sequences = open_sequences(first[0].config, of_arms[first_arm][0], catalogue)
        worlds.append(World(sequences, runs, weights, own_weights))
    return worlds


def load_arm(folders: Sequence[Path], checkpoint: str) -> list[Trained]:
    """Loads the runs of one arm onto one device; they share one model, so it is compiled once.

    Raises:
      ConfigError: the runs differ in config.model.
    """
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    found = [load_calibrated(folders[0], checkpoint, mesh)]
    for folder in folders[1:]:
        other = load_calibrated(folder, checkpoint, mesh, found[0].model)
        if other.config.model != found[0].config.model:
            raise ConfigError(
                f"{folder} and {folders[0]} are seeds of one arm but differ in config.model: put "
                "them in separate folders, as two arms"
            )
        found.append(other)
    return found


def _mean_weight(runs: list[Trained], folders: list[Path], checkpoint: str) -> float | None:
    found = [
        ceiling.frozen_weight(run, load_weight_sums(folder, checkpoint, run.mesh))
        for run, folder in zip(runs, folders, strict=True)
    ]
    return None if None in found else float(np.mean(found))
