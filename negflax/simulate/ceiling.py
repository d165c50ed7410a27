"""Responsiveness as a share of the ideal observer's, the ceiling: 1 is right, more is overreaction.

The observer's objective is that of the arm, at the weight w that the arm's training has frozen
(negflax/simulate/ideal.py).

Shapes: S pairs, V catalogue rows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from negflax.config import WorldConfig, positives_only
from negflax.data import Sequences
from negflax.simulate.ideal import Aim, ideal_lists
from negflax.simulate.measures import KINDS, LENGTHS, kinds_of, similarity
from negflax.simulate.pair_bootstrap import ENDS, Pairs, changes
from negflax.simulate.responsiveness import Settings, histories
from negflax.train.restore import Trained
from negflax.train.weights import Sums, loss_weights, negative_scale

VERSION = 2  # of the observer; results that programs have kept of another one are measured again


def frozen_weight(trained: Trained, sums: dict[str, Sums]) -> float | None:
    """Returns the weight w of dislikes at a checkpoint: 0 for positives only.

    That of the calibration if it has an ω of its own, as its objective is what the lists follow.
    None if the observer has no list for the run's objective (only `ntr` has one).

    Args:
      trained: the checkpoint.
      sums: its `weight_sums`.
    """
    if own_omega(trained):
        return float(trained.calibration.report["w"])
    loss = trained.config.loss
    if positives_only(loss.objective):
        return 0.0
    if loss.objective != "ntr":
        return None
    values = loss_weights(loss, trained.config.model.dtype, trained.model.num_rows)
    return float(negative_scale(sums, np.int32(trained.step), values, loss))


def own_omega(trained: Trained) -> float:
    """Returns the ω of the calibration's own objective, 0 if it has the run's."""
    return float(trained.calibration.report.get("omega", 0)) if trained.calibration else 0.0


def ceilings(
    world: WorldConfig, sequences: Sequences, settings: Settings, aims: Collection[Aim]
) -> dict[Aim, Pairs]:
    """Returns what the observer does for each aim, with G = 1, as `measures.headline` of an arm.

    Args:
      world: settings of the world that generated the log.
      sequences: the log.
      settings: settings of the simulation, on shared trajectories.
      aims: objectives of the lists.
    """
    event_ST, found = histories(sequences, settings), {}
    item_S = sequences.item_E[event_ST[:, -1]]
    kinds = kinds_of(sequences.catalogue).values()
    lists = ideal_lists(sequences, event_ST, world, aims, LENGTHS[0], settings.plan.signal)
    for aim, ideal in lists.items():
        sides = []
        for list_SK, mass_S2 in reversed(list(zip(*ideal, strict=True))):  # with, then without
            similar = [[similarity(list_SK, item_S, kind_V)] for kind_V in kinds]
            sides.append(np.concatenate([similar, mass_S2.T[:, None]]))
        found[aim] = Pairs(*sides)
    return found


def figures(name: str, worlds: Sequence[Pairs], settings: Settings) -> dict[str, float]:
    """Returns `<name>/<kind>` with `_low` and `_high`: relative changes of the observer's lists."""
    rows = changes(worlds, settings.resamples, settings.seed)
    return {
        f"{name}/{kind}{end}": row[f"change{end}"]
        for kind, row in zip(KINDS, rows, strict=False)  # those of the lists
        for end in ENDS
    }
