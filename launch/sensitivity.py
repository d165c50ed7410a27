"""`launch.simulate sensitivity`: measures the effect of a dislike as the world is varied.

Each world differs from the default in one mechanism.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from negflax.calibration import load_calibrated
from negflax.config import Config, ConfigError, MeshConfig
from negflax.data import Sequences, open_sequences
from negflax.evaluate import format_table
from negflax.files import write_json
from negflax.fitting import calibrate_run, train_run
from negflax.mesh import make_mesh
from negflax.simulate import ceiling, measures, pairs, responsiveness
from negflax.simulate.ideal import Aim
from negflax.simulate.measures import Lists
from negflax.simulate.pair_bootstrap import ENDS
from negflax.simulate.responsiveness import Settings
from negflax.train.restore import Trained
from negflax.world.parameters import DEFAULT

from . import flags as shared

# They decide how informative a dislike is, and how far lists can respond to it.
PARAMETERS = (
    "aversion_loss",
    "cluster_aversion",
    "dislike_noise",
    "cluster_personalisation",
    "boredom_loss",
)
FACTORS = (0.5, 2.0)
ARMS = {"input_only": "ssm", "input_and_label": "ntr"}
ROW = "row.json"  # in the folder of a world: its settings and its results


def run(
    config: Config, workdir: str, settings: Settings, train: bool, parameters: Sequence[str]
) -> None:
    """Halves and doubles each parameter, and measures the effect of a dislike in each world.

    The table has the effect in the log itself, that of the ideal observer (the upper bound), and
    that of each trained arm.

    Args:
      config: config of the world and of training; each arm sets the objective.
      workdir: folder of the runs; a world with a stored result for the same settings is skipped.
      settings: pairs on shared trajectories.
      train: whether to train both arms in every world.
      parameters: names of mechanisms (negflax/world/parameters.py).

    Raises:
      ConfigError: a parameter is unknown.
    """
    for name in parameters:
        if not hasattr(DEFAULT, name):
            raise ConfigError(
                f"--parameters: unknown mechanism `{name}`; choose from those of "
                "negflax/world/parameters.py"
            )
    shared.start(workdir)
    worlds = [
        "",
        *(
            f"{name} = {factor * getattr(DEFAULT, name):g}"
            for name in parameters
            for factor in FACTORS
        ),
    ]
    rows = []
    for world in worlds:
        changed = dataclasses.replace(config.world, parameters=(world,) if world else ())
        one = dataclasses.replace(config, world=changed)
        folder = Path(workdir) / (world.replace(" ", "") or "default")
        asked = [dataclasses.asdict(one), dataclasses.asdict(settings), train, ceiling.VERSION]
        asked = json.loads(json.dumps(asked))  # tuples become lists, as in the stored file
        kept = json.loads((folder / ROW).read_text()) if (folder / ROW).exists() else {}
        if kept.get("asked") != asked:
            found = {"world": world or "default"} | _row(one, folder, settings, train)
            kept = {"asked": asked, "row": found}
            write_json(folder / ROW, kept)
        rows.append(kept["row"])
    print(format_table([{k: _shown(x) for k, x in row.items()} for row in rows]))
    write_json(shared.JSON.value or Path(workdir) / "sensitivity.json", {"rows": rows})


def _row(config: Config, folder: Path, settings: Settings, train: bool) -> dict[str, Any]:
    sequences = open_sequences(config, folder)
    kind_V = measures.kinds_of(sequences.catalogue)["cluster"]
    log = pairs.log_effect(sequences, kind_V, settings.resamples, settings.seed)
    row = {"dislikes": float((sequences.dislike_E == 2).mean()), "log": list(log)}
    aims = {"ideal": Aim(), "ideal_and_label": Aim(omega=config.loss.omega)}
    ideals = ceiling.ceilings(config.world, sequences, settings, aims.values())
    for name, aim in aims.items():
        row[name] = _triple(ceiling.figures(name, [ideals[aim]], settings), f"{name}/cluster")
    for arm, objective in ARMS.items() if train else ():
        loss = dataclasses.replace(config.loss, objective=objective)
        trained = _trained(dataclasses.replace(config, loss=loss), folder / arm, sequences)
        found = responsiveness.simulate(trained, sequences, settings).found
        lists = Lists([found], trained.catalogue)
        table = measures.summarise([lists], settings.resamples, settings.seed)
        row[arm] = _triple(measures.figures(arm, table), f"responsiveness/{arm}/cluster")
    return row


def _trained(config: Config, folder: Path, sequences: Sequences) -> Trained:
    """Trains one arm, and calibrates it if its config wants that."""
    train_run(config, folder, sequences)
    if config.calibration.after_training:
        calibrate_run(folder, "latest", sequences)
    return load_calibrated(folder, "latest", make_mesh(MeshConfig(), jax.devices()[:1]))


def _triple(figures: dict[str, float], key: str) -> list[float]:
    return [figures[f"{key}{end}"] for end in ENDS]


def _shown(x: Any) -> Any:
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*x) if isinstance(x, list) else x
