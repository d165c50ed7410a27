"""Is the calibration better trained together with the encoder? One table for small worlds.

  python -m benchmarks.inside_training --workdir=runs/inside --json=inside.json  # a CPU hour
  python -m benchmarks.inside_training --worlds=heedless --arms=input_only --seeds=0

Variants of the arms of configs/responsiveness.py whose encoder reads dislikes, by cluster only
(docs/calibration.md):

  alone      the arm
  after      calibrated after training, as `launch.calibrate --set=kinds=cluster` does
  inside     the scalars of the calibration trained with the encoder, at a rate of their own
  refits     the same scalars refitted by Newton's method after every epoch, and at the end
  memory     a decayed memory of the items that a user rejected, added to the state
  sign_head  an auxiliary head that predicts whether the next feedback is a dislike

The weight of dislikes in the objective is the one that the arm alone has frozen. Held out are the
labels of the validation period; `gain` is by how much a variant lowers the objective there,
per 1,000 labels, with its standard error over users and training seeds; `beyond_after` is the same
compared with `after`. What is in --workdir is not trained or measured again.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import jax
from absl import flags, logging

from benchmarks._inside_held_out import Run, gain, values_of
from benchmarks._inside_runs import VARIANTS, Arm, Settings
from configs import responsiveness as responsiveness_config
from launch import flags as shared
from launch import respond
from launch.arm_runs import World
from launch.worlds import TRAINED
from negflax.calibration import Calibration
from negflax.calibration.kind_terms import Scales
from negflax.config import Config, from_config_dict
from negflax.data import Sequences, open_sequences
from negflax.evaluate import format_table
from negflax.files import write_json
from negflax.simulate import responsiveness
from negflax.simulate.pair_bootstrap import ENDS
from negflax.simulate.terms_kept import with_terms
from negflax.simulate.walk import Plan
from negflax.train.restore import Trained

WORLDS = flags.DEFINE_list("worlds", ["heedless", "reacting", "control"], "Named worlds.")
NAMES = flags.DEFINE_list("arms", list(TRAINED), "Arms.")
CHOSEN = flags.DEFINE_list("variants", list(VARIANTS), "Variants; `alone` is always trained.")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Training seeds.")
PAIRS = flags.DEFINE_integer("pairs", 800, "Pairs of users.")
USERS = flags.DEFINE_integer("users", 6_000, "Users of a world.")
RATE = flags.DEFINE_float("rate", Settings.rate, "Learning rate of the scalars of `inside`.")
SIGN_WEIGHT = flags.DEFINE_float("sign_weight", Settings.sign_weight, "Weight of `sign_head`.")
RUNS = flags.DEFINE_string(
    "runs",
    "",
    "Finished runs of `launch.simulate worlds --config=configs/responsiveness.py:"
    "encoder_input_and_label`, which need not be trained again.",
)
WORKDIR = flags.DEFINE_string("workdir", "", "Keeps worlds and their results; default: nothing.")
SMALL = {"num_items": 1_500, "num_creators": 240}
POSITIVES_ONLY_STEPS = 200 / 6_000  # of a user: half of all steps, as in docs/responsiveness.md
RESAMPLES = 2_000  # of pairs and seeds
LATER = 1  # lists after the first one, which are not in the table
SHOWN = ("responsiveness", "mass", "ceiling", "share", "mass_share")


def config_of(world: str, arm: str, users: int, folder: Path) -> Config:
    """The run of an arm in a small world."""
    config = from_config_dict(responsiveness_config.get_config(f"encoder_{arm}"))
    sizes = SMALL | {"name": world, "num_users": users}
    return dataclasses.replace(
        config,
        world=dataclasses.replace(config.world, **sizes),
        data=dataclasses.replace(config.data, cache_dir=str(folder / "data")),
        loss=dataclasses.replace(
            config.loss,
            objective=TRAINED[arm],
            positives_only_steps=round(POSITIVES_ONLY_STEPS * users),
            ramp_steps=min(config.loss.ramp_steps, users // 60),
        ),
    )


def world_rows(world: str, folder: Path) -> list[dict[str, Any]]:
    """Trains and measures all variants of all arms in one world: rows of the table."""
    sequences: Sequences | None = None
    found: dict[str, list[Run]] = {}
    settings = Settings(RATE.value, SIGN_WEIGHT.value)
    for name in NAMES.value:
        config = config_of(world, name, USERS.value, folder)
        sequences = sequences or open_sequences(config, folder)
        finished = Path(RUNS.value) / world / "world0" / name if RUNS.value else None
        arm = Arm(config, sequences, settings, folder / name, finished)
        for seed in map(int, SEEDS.value):
            for variant in dict.fromkeys(["alone", *CHOSEN.value]):
                found.setdefault(f"{name}/{variant}", []).append(arm.run(variant, seed))
    figures = measured(sequences, found)
    rows = []
    for name, runs in found.items():
        arm_name, variant = name.split("/")
        lower, error = gain(runs, found[f"{arm_name}/alone"])
        row = {"world": world, "arm": arm_name, "variant": variant, "w": runs[0].w}
        row |= {"gain": 1_000 * lower, "gain_error": 1_000 * error}
        if after := found.get(f"{arm_name}/after"):
            lower, error = gain(runs, after)
            row |= {"beyond_after": 1_000 * lower, "beyond_after_error": 1_000 * error}
        for what in SHOWN:
            row |= {f"{what}{end}": figures.get(f"{what}/{name}/cluster{end}") for end in ENDS}
        row |= {
            f"hr_p@10{end}": figures[f"hr_p@10/{name}{end}"] for end in ENDS
        }  # lowest, highest seed
        rows.append(row | {"scalars": [values_of(run.trained) for run in runs]})
    return rows


def measured(sequences: Sequences, found: dict[str, list[Run]]) -> dict[str, Any]:
    """Responses, ceilings and HR_p, by `launch.simulate responsiveness`."""
    runs = {
        name: [_same_program(run.trained) for run in of_name] for name, of_name in found.items()
    }
    weights = {
        name: sum(run.w for run in of_name) / len(of_name) for name, of_name in found.items()
    }
    settings = responsiveness.Settings(PAIRS.value, Plan(later=LATER), RESAMPLES)
    named = respond.measure([World(sequences, runs, weights)], {"shared": settings})["named"]
    return {key: respond.or_null(x) for key, x in named.items()}


def _same_program(trained: Trained) -> Trained:
    """With zeros for a calibration that it has not: one program serves all variants."""
    none = Calibration("", Scales.of(trained.config.calibration), {})
    return dataclasses.replace(trained, calibration=with_terms(trained.calibration or none))


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row as it is printed."""

    def interval(what: str) -> str:
        ends = [row[f"{what}{end}"] for end in ENDS]
        return "–" if None in ends else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*ends)

    kept = {key: row[key] for key in ("world", "arm", "variant")}
    for what in [name for name in ("gain", "beyond_after") if name in row]:
        kept[what] = f"{row[what]:+.1f} ± {row[f'{what}_error']:.1f}"
    return kept | {what: interval(what) for what in SHOWN} | {"HR_p@10": f"{row['hr_p@10']:.4f}"}


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    with tempfile.TemporaryDirectory() as temporary:
        home, rows = Path(WORKDIR.value or temporary), []
        shared.start(home)
        # Every run compiles the same small programs again, unless they are kept.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        asked = {flag.name: flag.value for flag in (NAMES, CHOSEN, SEEDS, PAIRS, USERS)}
        asked |= {flag.name: flag.value for flag in (RATE, SIGN_WEIGHT)}
        for world in WORLDS.value:
            path = home / world / "inside.json"
            kept = json.loads(path.read_text()) if path.exists() else {}
            if kept.get("asked") != asked:
                kept = {"asked": asked, "rows": world_rows(world, home / world)}
                write_json(path, kept)
            rows += kept["rows"]
            logging.info("%s:\n%s", world, format_table([shown(row) for row in kept["rows"]]))
    print(format_table([shown(row) for row in rows]))
    if shared.JSON.value:
        write_json(shared.JSON.value, {"rows": rows})


if __name__ == "__main__":
    shared.run(main)
