"""`launch.simulate sensitivity`: the effect of a dislike in worlds that differ in one mechanism."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax

from launch import flags as shared
from launch.fit import fit
from negflax.config import Config, MeshConfig
from negflax.data import open_sequences
from negflax.evaluate import format_table
from negflax.files import write_json
from negflax.mesh import make_mesh
from negflax.simulate import measures, pairs, responsiveness
from negflax.simulate.responsiveness import Settings
from negflax.train.restore import load_trained
from negflax.world.parameters import DEFAULT

# What decides how much a dislike tells, and how much lists can follow it.
PARAMETERS = ("aversion_loss", "cluster_aversion", "dislike_noise", "cluster_personalisation",
              "boredom_loss")  # fmt: skip
FACTORS = (0.5, 2.0)
ARMS = {"input_only": "ssm", "input_and_label": "ntr"}


def run(config: Config, workdir: str, settings: Settings, train: bool) -> None:
    """Halves and doubles each parameter: the log's own effect, the ceiling, and the arms'.

    Args:
      config: of the world and of training; the objective is the arm's.
      workdir: its runs; what was trained there is not trained again.
      settings: pairs on shared trajectories.
      train: train both arms anew in every world.
    """
    shared.start(workdir)
    worlds = ["", *(f"{name} = {factor * getattr(DEFAULT, name):g}" for name in PARAMETERS
                    for factor in FACTORS)]  # fmt: skip
    rows = [_row(config, world, Path(workdir), settings, train) for world in worlds]
    print(format_table([{k: _shown(x) for k, x in row.items()} for row in rows]))
    write_json(shared.JSON.value or Path(workdir) / "sensitivity.json", {"rows": rows})


def _row(
    config: Config, world: str, workdir: Path, settings: Settings, train: bool
) -> dict[str, Any]:
    changed = dataclasses.replace(config.world, parameters=(world,) if world else ())
    folder = workdir / (world.replace(" ", "") or "default")
    config = dataclasses.replace(config, world=changed)
    sequences = open_sequences(config, folder)
    kind_V = measures.kinds_of(sequences.catalogue)["cluster"]
    log = pairs.log_effect(sequences, kind_V, settings.resamples, settings.seed)
    row = {"world": world or "default", "dislikes": float((sequences.dislike_E == 2).mean())}
    row["log"] = list(log)
    figures = responsiveness.ideal_figures(changed, config.loss.omega, sequences, settings)
    row |= {name: _triple(figures, f"{name}/cluster") for name in ("ideal", "ideal_and_label")}
    for arm, objective in ARMS.items() if train else ():
        loss = dataclasses.replace(config.loss, objective=objective)
        fit(dataclasses.replace(config, loss=loss), folder / arm, sequences)
        trained = load_trained(folder / arm, "latest", make_mesh(MeshConfig(), jax.devices()[:1]))
        found = responsiveness.simulate(trained, sequences, settings).found
        table = measures.summarise([found], trained.catalogue, settings.resamples, settings.seed)
        row[arm] = _triple(measures.figures(arm, table), f"responsiveness/{arm}/cluster")
    return row


def _triple(figures: dict[str, float], key: str) -> list[float]:
    return [figures[f"{key}{end}"] for end in measures.ENDS]


def _shown(x: Any) -> Any:
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*x) if isinstance(x, list) else x
