"""How lists change after a dislike: the counterfactual simulation of docs/method.md §7.

Pairs of simulated users share a history up to item k. Both watch item k to its end, and one of them
also dislikes it. Responsiveness is the relative change of the share of the next list that is
similar to item k. For logs whose signal is skips, that user skips item k instead.

Shapes: S pairs, K list length, J later lists, V catalogue rows.
"""

from __future__ import annotations

import dataclasses
import time

import jax
import numpy as np

from negflax.data import Catalogue, Sequences
from negflax.evaluate.baselines.personal_scores import CALIBRATED, Adjustment
from negflax.simulate.arm import arm_of
from negflax.simulate.measures import kinds_of
from negflax.simulate.pairs import chance, draw_pairs, history_events
from negflax.simulate.personal_terms import personal_terms
from negflax.simulate.walk import DOSES, Plan, Walk, walk
from negflax.train.restore import Trained


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the simulation.

    Attributes:
      pairs: number of pairs S.
      plan: sizes and the kind of trajectories (`own`).
      resamples: number of bootstrap resamples.
      seed: seed of the pairs, the serving layer and the bootstrap.
    """

    pairs: int = 2_000
    plan: Plan = Plan()
    resamples: int = 10_000
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Lists of one arm, and the speed of the simulation.

    Attributes:
      found: the lists, as NumPy arrays.
      pairs_per_second: pairs per second, without compilation.
    """

    found: Walk
    pairs_per_second: float


def simulate(
    trained: Trained,
    sequences: Sequences,
    settings: Settings,
    adjustment: Adjustment = CALIBRATED,
) -> Outcome:
    """Simulates one arm.

    Args:
      trained: checkpoint of the arm; its catalogue must be that of the log.
      sequences: log whose histories are branched; the same for all arms.
      settings: settings of the simulation.
      adjustment: what is added to the model's scores.

    Raises:
      DataError: the log has no histories of k events, or the catalogue no clusters or creators.
    """
    plan, items = settings.plan, trained.catalogue.num_rows - 1
    # Lists cannot be longer than what is left of the catalogue.
    room = items - plan.k - plan.later - DOSES
    block = min(plan.block, settings.pairs)
    plan = dataclasses.replace(plan, length=min(plan.length, room), block=block)
    prefix_ST, after_SJ = draw_pairs(
        sequences, _whole_blocks(settings), plan.k, plan.later, settings.seed
    )
    if not adjustment.counts:
        trained = dataclasses.replace(trained, calibration=None)
    terms = personal_terms(trained, sequences, adjustment)
    arm = arm_of(trained, bool(sequences.dwell_E.any()), terms)
    given = arm, prefix_ST, after_SJ, jax.random.key(settings.seed)
    program = walk.lower(*given, model=trained.model, plan=plan).compile()
    start = time.perf_counter()
    found = jax.block_until_ready(program(*given))
    seconds = time.perf_counter() - start
    return Outcome(_first(jax.device_get(found), settings.pairs), settings.pairs / seconds)


def histories(sequences: Sequences, settings: Settings) -> np.ndarray:
    """Returns the indices in the log of the events of each pair on shared trajectories, (S, k)."""
    count = _whole_blocks(settings)
    return history_events(sequences, count, settings.plan.k, settings.seed)[: settings.pairs]


def _whole_blocks(settings: Settings) -> int:
    block = min(settings.plan.block, settings.pairs)
    return -(-settings.pairs // block) * block


def _first(found: Walk, pairs: int) -> Walk:
    """Drops the pairs that only pad the last block."""
    return Walk(
        found.branch_BSK[:, :pairs],
        found.mass_BS2[:, :pairs],
        found.later_2JSK[:, :, :pairs],
        found.dose_4SK[:, :pairs],
        found.item_S[:pairs],
        found.before_SN[:pairs],
    )


def chances(found: Walk, catalogue: Catalogue) -> dict[str, float]:
    """Returns the similarity of a random list, by kind."""
    return {kind: chance(catalogue, found.item_S, v) for kind, v in kinds_of(catalogue).items()}
