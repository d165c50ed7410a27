"""How lists change after a dislike: the counterfactual simulation of SPEC section 7.

Pairs of simulated users share a history up to item k; there one gives a dislike on top of a long
view, the other only the long view. Responsiveness is the relative change of the share of their
lists that is like item k.

Shapes: S pairs, K list length, J later lists, V catalogue rows.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import numpy as np

from negflax.data import Catalogue, Sequences
from negflax.evaluate.bootstrap import paired_bootstrap
from negflax.simulate.pairs import arm_of, chance, draw_pairs
from negflax.simulate.walk import BRANCHES, DOSES, Plan, Walk, walk
from negflax.train.restore import Trained

KINDS = ("cluster", "creator")
LENGTHS = (10, 100)  # K of the lists at k + 1; the first is the headline


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is simulated.

    Attributes:
      pairs: S.
      plan: sizes; `own` decides which trajectories.
      resamples: of the paired bootstrap over pairs.
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
    plan = dataclasses.replace(
        plan, length=min(plan.length, room), block=min(plan.block, settings.pairs)
    )
    padded = -(-settings.pairs // plan.block) * plan.block
    prefix_ST, after_SJ = draw_pairs(sequences, padded, plan.k, plan.later, settings.seed)
    arm = arm_of(trained, bool(sequences.dwell_E.any()))
    given = arm, prefix_ST, after_SJ, jax.random.key(settings.seed)
    program = walk.lower(*given, model=trained.model, plan=plan).compile()
    start = time.perf_counter()
    found = jax.block_until_ready(program(*given))
    seconds = time.perf_counter() - start
    return Outcome(_first(jax.device_get(found), settings.pairs), settings.pairs / seconds)


def _first(found: Walk, pairs: int) -> Walk:
    """Without the pairs that only fill the last block."""
    return Walk(
        found.branch_BSK[:, :pairs],
        found.later_2JSK[:, :, :pairs],
        found.dose_4SK[:, :pairs],
        found.item_S[:pairs],
        found.before_SN[:pairs],
    )


def kinds_of(catalogue: Catalogue) -> dict[str, np.ndarray]:
    """cluster, creator → (V,) numbers, 0 unknown."""
    return {"cluster": catalogue.clusters_VC[:, 0], "creator": catalogue.creator_V}


def similarity(list_SK: np.ndarray, item_S: np.ndarray, kind_V: np.ndarray) -> np.ndarray:
    """(S,) share of the list that is of item k's kind; NaN where that is unknown."""
    share_S = (kind_V[list_SK] == kind_V[item_S][:, None]).mean(axis=1)
    return np.where(kind_V[item_S] > 0, share_S, np.nan)


def other_interests(found: Walk, list_SK: np.ndarray, kind_V: np.ndarray) -> np.ndarray:
    """(S,) share of the history's other kinds within what is not of item k's kind; NaN: nothing."""
    num_kinds = int(kind_V.max()) + 1
    users = np.arange(len(list_SK))[:, None]
    known_SC = np.zeros((len(list_SK), num_kinds), bool)
    known_SC[users, kind_V[found.before_SN]] = True
    known_SC[users[:, 0], kind_V[found.item_S]] = False
    known_SC[:, 0] = False
    rest_SK = kind_V[list_SK] != kind_V[found.item_S][:, None]
    hit_S = (known_SC[users, kind_V[list_SK]] & rest_SK).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return hit_S / rest_SK.sum(axis=1)


def block_creator(list_SK: np.ndarray, item_S: np.ndarray, creator_V: np.ndarray) -> np.ndarray:
    """The yardstick without learning: the list without item k's creator, the next moving up.

    Its end is −1 where nothing is left to move up; take less than K of it.
    """
    same_SK = (creator_V[list_SK] == creator_V[item_S][:, None]) & (creator_V[item_S] > 0)[:, None]
    order_SK = np.argsort(same_SK, axis=1, kind="stable")
    moved_SK = np.take_along_axis(list_SK, order_SK, axis=1)
    return np.where(np.take_along_axis(same_SK, order_SK, axis=1), -1, moved_SK)


def change(after_S: np.ndarray, before_S: np.ndarray, settings: Settings) -> dict[str, float]:
    """Relative change of a mean with its interval over pairs, and both means."""
    ratio = paired_bootstrap(
        after_S, before_S, "mean_ratio", resamples=settings.resamples, seed=settings.seed
    )
    difference = paired_bootstrap(
        after_S, before_S, resamples=settings.resamples, seed=settings.seed
    )
    names = ("", "_low", "_high")
    figures = {f"change{n}": x - 1 for n, x in zip(names, ratio, strict=True)}
    figures |= {f"difference{n}": x for n, x in zip(names, difference, strict=True)}
    return figures | {"before": float(np.nanmean(before_S)), "after": float(np.nanmean(after_S))}


def measure(found: Walk, catalogue: Catalogue, settings: Settings) -> list[dict[str, Any]]:
    """Every measure of one arm, a row each: what, kind, K, branch, change with interval, n."""
    rows = []

    def add(what: str, kind: str, length: int, after_S, before_S) -> None:
        figures = change(after_S, before_S, settings)
        n = int(np.isfinite(before_S).sum())
        rows.append({"what": what, "kind": kind, "K": length, **figures, "n": n})

    for kind, kind_V in kinds_of(catalogue).items():

        def similar(list_SK):
            return similarity(list_SK, found.item_S, kind_V)  # noqa: B023

        for length in (min(x, found.branch_BSK.shape[2]) for x in LENGTHS):
            none_SK, *others = (x[:, :length] for x in found.branch_BSK)
            for branch, list_SK in zip(BRANCHES[1:], others, strict=True):
                add(branch, kind, length, similar(list_SK), similar(none_SK))
            for dose in range(1, DOSES + 1):
                lists = found.dose_4SK[[dose, 0], :, :length]
                add(f"{dose} of 3 disliked", kind, length, *map(similar, lists))
        short = found.later_2JSK.shape[3]
        for step, (without_SK, with_SK) in enumerate(np.swapaxes(found.later_2JSK, 0, 1), 1):
            add(f"k+{step}", kind, short, similar(with_SK), similar(without_SK))
        head = LENGTHS[0]
        blocked_SK = block_creator(found.branch_BSK[0], found.item_S, catalogue.creator_V)
        add("filter: block creator", kind, head, similar(blocked_SK[:, :head]),
            similar(found.branch_BSK[0][:, :head]))  # fmt: skip
    cluster_V = kinds_of(catalogue)["cluster"]
    for length in (min(x, found.branch_BSK.shape[2]) for x in LENGTHS):
        none_SK, dislike_SK = found.branch_BSK[:2, :, :length]
        others = [other_interests(found, x, cluster_V) for x in (dislike_SK, none_SK)]
        add("specificity", "cluster", length, *others)
        same_S = (none_SK[:, :, None] == dislike_SK[:, None, :]).any(axis=2).mean(axis=1)
        add("overlap of the lists", "item", length, same_S, np.ones(len(same_S)))
    return rows


def figures(name: str, rows: list[dict[str, Any]]) -> dict[str, float]:
    """The named figures of an arm, at the first K."""
    head = {(r["what"], r["kind"]): r for r in reversed(rows)}  # the first K of each comes last
    named = {}
    for kind in KINDS:
        for end in ("", "_low", "_high"):
            named[f"responsiveness/{name}/{kind}{end}"] = head["dislike", kind][f"change{end}"]
    for end in ("", "_low", "_high"):
        named[f"specificity/{name}{end}"] = head["specificity", "cluster"][f"change{end}"]
    return named


def chances(found: Walk, catalogue: Catalogue) -> dict[str, float]:
    """Similarity of a random list, by kind."""
    return {kind: chance(catalogue, found.item_S, v) for kind, v in kinds_of(catalogue).items()}
