"""Does the ideal observer respond less because it knows every user's lasting taste?

  python -m benchmarks.unknown_tastes --json=tastes.json    # 3 CPU minutes per world

The observer of `launch.simulate responsiveness` knows tastes; a model has to learn them. Here a
second observer infers taste and patience from the same 50 events (benchmarks/_taste_posterior.py),
and averages over what it holds possible. The table has the responses of both after one dislike, by
cluster, to lists of ten and to the probability of the cluster, with 95 % intervals over pairs, at
the weight of dislikes w: 0, positives only, and about that of the runs of docs/responsiveness.md.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from benchmarks._taste_posterior import sample_tastes
from launch import flags as shared
from negflax.config import Config, ConfigError, WorldConfig
from negflax.data import open_sequences
from negflax.evaluate import format_table
from negflax.files import write_json
from negflax.simulate.ideal import Aim, Ideal, ideal_lists, past_of, places, users_of
from negflax.simulate.measures import LENGTHS, kinds_of, similarity
from negflax.simulate.pair_bootstrap import ENDS, Pairs, changes
from negflax.simulate.responsiveness import Settings, histories
from negflax.world import NAMED_WORLDS, draw_population, mechanisms

WORLDS = flags.DEFINE_list("worlds", ["heedless", "reacting_weakly"], "Named worlds.")
WEIGHTS = flags.DEFINE_list("weights", ["0", "780"], "Weights w of dislikes.")
PAIRS = flags.DEFINE_integer("pairs", 150, "Number of pairs of simulated users.", lower_bound=1)
USERS = flags.DEFINE_integer("users", 6_000, "Users of the world.")
ITEMS = flags.DEFINE_integer("items", 1_500, "Items of the world.")
CREATORS = flags.DEFINE_integer("creators", 240, "Creators of the world.")


def rows_of(name: str, weights: list[float], settings: Settings) -> list[dict[str, Any]]:
    """The rows of one world, one per weight."""
    world = WorldConfig(
        name=name, num_users=USERS.value, num_items=ITEMS.value, num_creators=CREATORS.value
    )
    with tempfile.TemporaryDirectory() as folder:
        log = open_sequences(Config(world=world), folder)
    event_ST = histories(log, settings)
    p, population = mechanisms(world), draw_population(world)
    past_ST = past_of(log, event_ST, places(log, population))
    tastes, accepted = sample_tastes(
        population, past_ST, users_of(log, event_ST), jax.random.key(settings.seed), p=p
    )
    item_S, kind_V = log.item_E[event_ST[:, -1]], kinds_of(log.catalogue)["cluster"]

    def response(ideal: Ideal) -> list[dict[str, float]]:
        """Relative changes of lists and of the probability."""
        without, with_signal = (
            np.stack([similarity(lists_SK, item_S, kind_V), mass_S2[:, 0]])[:, None]
            for lists_SK, mass_S2 in zip(*ideal, strict=True)
        )
        pairs = [Pairs(with_signal, without)]
        return changes(pairs, settings.resamples, settings.seed)

    aims, rows = [Aim(w=w) for w in weights], []
    known = ideal_lists(log, event_ST, world, aims, LENGTHS[0])
    inferred = ideal_lists(log, event_ST, world, aims, LENGTHS[0], tastes=tastes)
    for aim in aims:
        row: dict[str, Any] = {"world": name, "w": aim.w, "accepted": float(accepted)}
        for who, found in (("knows", known), ("infers", inferred)):
            for what, of in zip(("lists", "probability"), response(found[aim]), strict=True):
                row |= {f"{who}/{what}{end}": of[f"change{end}"] for end in ENDS}
        rows.append(row)
    return rows


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    if unknown := set(WORLDS.value) - set(NAMED_WORLDS):
        raise ConfigError(f"--worlds: unknown {sorted(unknown)}; choose from {list(NAMED_WORLDS)}")
    settings = dataclasses.replace(Settings(), pairs=PAIRS.value)
    rows: list[dict[str, Any]] = []
    for name in WORLDS.value:
        rows += rows_of(name, [float(w) for w in WEIGHTS.value], settings)
        shown = [
            {"world": row["world"], "w": f"{row['w']:g}"}
            | {
                what: "{:+.3f} [{:+.3f}, {:+.3f}]".format(*(row[f"{what}{end}"] for end in ENDS))
                for what in (
                    "knows/lists",
                    "infers/lists",
                    "knows/probability",
                    "infers/probability",
                )
            }
            for row in rows
        ]
        print(f"\n{format_table(shown)}", flush=True)
    if shared.JSON.value:
        write_json(Path(shared.JSON.value), {"rows": rows})


if __name__ == "__main__":
    shared.run(main)
