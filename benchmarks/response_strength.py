"""Is the calibration's response to rejections as strong as held-out labels want it?

  python -m benchmarks.response_strength --runs=runs/worlds --json=strength.json    # 3 CPU minutes

For the runs of `launch.simulate worlds` (docs/responsiveness.md): what rejections add to the scores
of their cluster is multiplied by each factor. The table has by how much the objective on the labels
of the validation period is then higher than with factor 1, per 1,000 labels, with the standard
error over users and training seeds: the mean over both, and over worlds of one name. All scalars
were fitted on the training period. Above 0, the factor is worse than 1.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags, logging

from benchmarks._inside_held_out import HELD_OUT, KIND, Run, gain, labels_of
from launch import flags as shared
from launch.worlds import ARMS
from negflax.calibration import Calibration, load_calibrated, newton
from negflax.calibration.fit_data import Data, Weights
from negflax.calibration.kind_terms import REJECTION_FEATURES, shift
from negflax.calibration.label_weights import weights_of_fit
from negflax.config import ConfigError, MeshConfig
from negflax.data import Sequences, open_sequences
from negflax.evaluate import format_table
from negflax.files import write_json
from negflax.mesh import make_mesh
from negflax.train.restore import load_weight_sums

RUNS = flags.DEFINE_string("runs", "runs/worlds", "Folder of `launch.simulate worlds`.")
WORLDS = flags.DEFINE_list(
    "worlds", ["heedless", "grumble", "loose", "reacting", "reacting_weakly"], "Named worlds."
)
NAMES = flags.DEFINE_list("arms", list(ARMS), "Arms.")
FACTORS = flags.DEFINE_list("factors", ["0", "0.5", "0.75", "1", "1.25", "1.5"], "Factors.")


def losses_of(
    calibration: Calibration, data: Data, weights: Weights, factors: list[float]
) -> np.ndarray:
    """(F, N) objective of each label, with what rejections add multiplied by each factor."""
    values = calibration.values.get(KIND, {})

    def scaled(features: dict[str, Any], factor: float) -> jax.Array:
        none = {name: jnp.zeros_like(features[name]) for name in REJECTION_FEATURES}
        without_NM = shift(values, features | none, jnp)
        return without_NM + factor * (shift(values, features, jnp) - without_NM)

    return np.stack(
        [
            newton.losses_of_shift(functools.partial(scaled, factor=factor), data, weights)
            for factor in factors
        ]
    )


def world_changes(folders: list[Path], factors: list[float]) -> list[tuple[float, float]]:
    """(mean change of the objective, standard error) of each factor, over runs of one world."""
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    runs: list[list[Run]] = []  # by training seed: of factor 1, and of each factor
    sequences: Sequences | None = None
    for folder in folders:
        trained = load_calibrated(folder, "latest", mesh)
        sequences = sequences or open_sequences(
            trained.config, folder.parent.parent, trained.catalogue
        )
        weights = weights_of_fit(trained, load_weight_sums(folder, "latest", mesh))
        settings = dataclasses.replace(trained.config.calibration, kinds=(KIND,))
        data = labels_of(trained, sequences, weights, settings, HELD_OUT)
        user_N = np.asarray(data.user_N)[: data.labels]
        losses_FN = losses_of(trained.calibration, data, weights, [1.0, *factors])
        runs.append([Run(None, weights.w, losses_N, user_N) for losses_N in losses_FN])
        logging.info("%s: measured", folder)
    as_fitted, *scaled = (list(of_factor) for of_factor in zip(*runs, strict=True))
    gains = [gain(as_fitted, of_factor) for of_factor in scaled]
    return [(1_000 * worse, 1_000 * error) for worse, error in gains]


def row_of(world: str, arm: str, factors: list[float]) -> dict[str, Any]:
    """A row of the table: all worlds of a name.

    Raises:
      ConfigError: the folder has no calibrated runs.
    """
    by_world: dict[Path, list[Path]] = {}
    for path in sorted(Path(RUNS.value, world).glob(f"world*/{arm}/seed*/calibration.json")):
        by_world.setdefault(path.parents[2], []).append(path.parent)
    if not by_world:
        raise ConfigError(f"--runs={RUNS.value}: no calibrated runs of {arm} in world {world}")
    changes_GF2 = np.array([world_changes(folders, factors) for folders in by_world.values()])
    errors_F = np.sqrt((changes_GF2[..., 1] ** 2).sum(axis=0)) / len(by_world)
    row: dict[str, Any] = {"world": world, "arm": arm, "worlds": len(by_world)}
    row["runs"] = sum(map(len, by_world.values()))
    means_F = changes_GF2[..., 0].mean(axis=0)
    for factor, change, error in zip(factors, means_F, errors_F, strict=True):
        row |= {f"{factor:g}": float(change), f"{factor:g}_error": float(error)}
    return row


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    shared.start(Path(RUNS.value))
    factors = [float(x) for x in FACTORS.value]
    rows = [row_of(world, arm, factors) for world in WORLDS.value for arm in NAMES.value]
    shown = [
        {name: row[name] for name in ("world", "arm", "worlds", "runs")}
        | {f"{x:g}": f"{row[f'{x:g}']:+.1f} ± {row[f'{x:g}_error']:.1f}" for x in factors}
        for row in rows
    ]
    print(format_table(shown))
    if shared.JSON.value:
        write_json(shared.JSON.value, {"rows": rows})


if __name__ == "__main__":
    shared.run(main)
