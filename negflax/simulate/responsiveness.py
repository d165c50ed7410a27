"""How lists change after a dislike: the counterfactual simulation of docs/method.md §7.

Pairs of simulated users share a history up to item k; there one gives a dislike on top of a long
view, the other only the long view. Responsiveness is the relative change of the share of their
lists that is like item k. Where a log's signal is skips, one skips item k in place of the view.

Shapes: S pairs, K list length, J later lists, V catalogue rows.
"""

from __future__ import annotations

import dataclasses
import time

import jax
import numpy as np

from negflax.config import WorldConfig
from negflax.data import Catalogue, Sequences
from negflax.simulate import ideal
from negflax.simulate.arm import arm_of
from negflax.simulate.measures import ENDS, LENGTHS, changes, kinds_of, similarity
from negflax.simulate.pairs import chance, draw_pairs, history_events
from negflax.simulate.walk import DOSES, Plan, Walk, walk
from negflax.train.restore import Trained


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is simulated.

    Attributes:
      pairs: S.
      plan: sizes; `own` decides which trajectories.
      resamples: of the bootstrap.
      seed: of pairs, serving and bootstrap.
    """

    pairs: int = 2_000
    plan: Plan = Plan()
    resamples: int = 10_000
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Lists of one arm, and how fast they came.

    Attributes:
      found: NumPy arrays.
      pairs_per_second: pairs over the seconds of the program, compilation apart.
    """

    found: Walk
    pairs_per_second: float


def simulate(trained: Trained, sequences: Sequences, settings: Settings) -> Outcome:
    """Runs one arm.

    Args:
      trained: the arm; its catalogue must be that of the log.
      sequences: the log whose histories are branched; the same for all arms.
      settings: what is simulated.

    Raises:
      DataError: the log has no such histories, or the catalogue no clusters or creators.
    """
    plan, items = settings.plan, trained.catalogue.num_rows - 1
    # Lists cannot be longer than what is left of the catalogue.
    room = items - plan.k - plan.later - DOSES
    block = min(plan.block, settings.pairs)
    plan = dataclasses.replace(plan, length=min(plan.length, room), block=block)
    prefix_ST, after_SJ = draw_pairs(
        sequences, _whole_blocks(settings), plan.k, plan.later, settings.seed
    )
    arm = arm_of(trained, bool(sequences.dwell_E.any()))
    given = arm, prefix_ST, after_SJ, jax.random.key(settings.seed)
    program = walk.lower(*given, model=trained.model, plan=plan).compile()
    start = time.perf_counter()
    found = jax.block_until_ready(program(*given))
    seconds = time.perf_counter() - start
    return Outcome(_first(jax.device_get(found), settings.pairs), settings.pairs / seconds)


def histories(sequences: Sequences, settings: Settings) -> np.ndarray:
    """(S, k) places in the log of what each pair consumed on shared trajectories."""
    count = _whole_blocks(settings)
    return history_events(sequences, count, settings.plan.k, settings.seed)[: settings.pairs]


def _whole_blocks(settings: Settings) -> int:
    block = min(settings.plan.block, settings.pairs)
    return -(-settings.pairs // block) * block


def _first(found: Walk, pairs: int) -> Walk:
    """Without the pairs that only fill the last block."""
    return Walk(
        found.branch_BSK[:, :pairs],
        found.later_2JSK[:, :, :pairs],
        found.dose_4SK[:, :pairs],
        found.item_S[:pairs],
        found.before_SN[:pairs],
    )


def chances(found: Walk, catalogue: Catalogue) -> dict[str, float]:
    """Similarity of a random list, by kind."""
    return {kind: chance(catalogue, found.item_S, v) for kind, v in kinds_of(catalogue).items()}


def ideal_figures(
    world: WorldConfig, omega: float, sequences: Sequences, settings: Settings
) -> dict[str, float]:
    """Responsiveness of an observer who knows the world (negflax/simulate/ideal.py).

    Args:
      world: that made the log.
      omega: ω, for `ideal_and_label`.
      sequences: the log.
      settings: pairs and intervals.

    Returns:
      `ideal/<kind>`, `ideal_and_label/<kind>`, with `_low` and `_high`, at the first K.
    """
    event_ST, named = histories(sequences, settings), {}
    item_S = sequences.item_E[event_ST[:, -1]]
    for name, strength in (("ideal", 0.0), ("ideal_and_label", omega)):
        lists = ideal.ideal_lists(
            sequences, event_ST, world, strength, LENGTHS[0], settings.plan.signal
        )
        for kind, kind_V in kinds_of(sequences.catalogue).items():
            before_S, after_S = (similarity(x, item_S, kind_V) for x in lists)
            (row,) = changes(
                after_S[None, None], before_S[None, None], settings.resamples, settings.seed
            )
            named |= {f"{name}/{kind}{end}": row[f"change{end}"] for end in ENDS}
    return named
