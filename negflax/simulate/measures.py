"""Measures of how lists change after a dislike, with intervals (pair_bootstrap.py).

Every measure is the relative change of a mean: with the dislike (or skip) compared with without it.

Shapes: S pairs, K list length, N past items, V catalogue rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from negflax.data import Catalogue
from negflax.simulate.arm import BRANCHES
from negflax.simulate.pair_bootstrap import ENDS, Pairs, changes
from negflax.simulate.walk import DOSES, Walk

KINDS = ("cluster", "creator")
MASS = "probability of the kind"  # of all items that may be listed (kind_mass.py); K is 0
LENGTHS = (10, 100)  # K of the lists at k + 1; the first is the headline
DISMISSAL_BIT = "dismissal over skip"  # effect of the dismissal bit alone, beyond that of the skip
PAST = {"dislike": "disliked", "skip": "skipped"}


class Measure(NamedTuple):
    """One value per pair with the feedback, and one without.

    Attributes:
      what: name of the measure: a branch, a dose, a later step or another one.
      kind: `cluster`, `creator` or `item`.
      K: list length; 0: the whole catalogue.
      after_S: values with the feedback; NaN if undefined.
      before_S: values without it.
    """

    what: str
    kind: str
    K: int
    after_S: np.ndarray
    before_S: np.ndarray


class Lists(NamedTuple):
    """Lists of an arm's runs in one world, one per training seed, for the same users."""

    runs: Sequence[Walk]
    catalogue: Catalogue


def kinds_of(catalogue: Catalogue) -> dict[str, np.ndarray]:
    """Returns for `cluster` and `creator` the number of each item's, (V,), 0 if unknown."""
    return {"cluster": catalogue.clusters_VC[:, 0], "creator": catalogue.creator_V}


def similarity(list_SK: np.ndarray, item_S: np.ndarray, kind_V: np.ndarray) -> np.ndarray:
    """Returns the share of the list with the kind of item k, (S,); NaN if that is unknown.

    Here and below, the kind of an item is its cluster or its creator, as given by kind_V.
    """
    return _known((kind_V[list_SK] == kind_V[item_S][:, None]).mean(axis=1), item_S, kind_V)


def _known(value_S: np.ndarray, item_S: np.ndarray, kind_V: np.ndarray) -> np.ndarray:
    return np.where(kind_V[item_S] > 0, value_S, np.nan)


def other_interests(found: Walk, list_SK: np.ndarray, kind_V: np.ndarray) -> np.ndarray:
    """Returns the share of kinds known from the history, among items not of item k's kind.

    (S,); NaN if the whole list is of item k's kind.
    """
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
    """Removes the items of item k's creator from the list: a baseline that needs no learning.

    The following items move up, and −1 fills the end of the list; so use fewer than K of it.
    """
    same_SK = (creator_V[list_SK] == creator_V[item_S][:, None]) & (creator_V[item_S] > 0)[:, None]
    order_SK = np.argsort(same_SK, axis=1, kind="stable")
    moved_SK = np.take_along_axis(list_SK, order_SK, axis=1)
    return np.where(np.take_along_axis(same_SK, order_SK, axis=1), -1, moved_SK)


def measures(found: Walk, catalogue: Catalogue, signal: str = "dislike") -> list[Measure]:
    """Returns the measures of one run: how the lists and the probabilities change.

    Args:
      found: lists of the run.
      catalogue: catalogue of the lists.
      signal: signal of the run (`Plan.signal`), used for specificity and overlap as well.
    """
    lengths = [min(x, found.branch_BSK.shape[2]) for x in LENGTHS]
    head, rows = lengths[0], []
    for kind, kind_V in kinds_of(catalogue).items():

        def add(what: str, after_SK: np.ndarray, before_SK: np.ndarray) -> None:
            both = (similarity(x, found.item_S, kind_V) for x in (after_SK, before_SK))  # noqa: B023
            rows.append(Measure(what, kind, after_SK.shape[1], *both))  # noqa: B023

        for length in lengths:
            lists = dict(zip(BRANCHES, found.branch_BSK[:, :, :length], strict=True))
            for branch in BRANCHES[1:]:
                add(branch, lists[branch], lists["none"])
            add(DISMISSAL_BIT, lists["dismissal"], lists["skip"])
            for dose in range(1, DOSES + 1):
                add(f"{dose} of 3 {PAST[signal]}", *found.dose_4SK[[dose, 0], :, :length])
        for step, (without_SK, with_SK) in enumerate(np.swapaxes(found.later_2JSK, 0, 1), 1):
            add(f"k+{step}", with_SK, without_SK)
        none_SK = found.branch_BSK[0]
        blocked_SK = block_creator(none_SK, found.item_S, catalogue.creator_V)
        add("filter: block creator", blocked_SK[:, :head], none_SK[:, :head])
        before_S, after_S = (
            _known(found.mass_BS2[branch, :, KINDS.index(kind)], found.item_S, kind_V)
            for branch in (0, BRANCHES.index(signal))
        )
        rows.append(Measure(MASS, kind, 0, after_S, before_S))
    cluster_V = kinds_of(catalogue)["cluster"]
    for length in lengths:
        none_SK, signal_SK = found.branch_BSK[[0, BRANCHES.index(signal)], :, :length]
        others = (other_interests(found, x, cluster_V) for x in (signal_SK, none_SK))
        rows.append(Measure("specificity", "cluster", length, *others))
        same_S = (none_SK[:, :, None] == signal_SK[:, None, :]).any(axis=2).mean(axis=1)
        rows.append(Measure("overlap of the lists", "item", length, same_S, np.ones(len(same_S))))
    return rows


def summarise(
    worlds: Sequence[Lists], resamples: int, seed: int, signal: str = "dislike"
) -> list[dict[str, Any]]:
    """Returns the table of one arm, one row per measure.

    Args:
      worlds: lists of the arm's runs, one entry per seed of the world.
      resamples: number of bootstrap resamples.
      seed: seed of the bootstrap.
      signal: as in `measures`.

    Returns:
      Rows with `what`, `kind`, `K`; `change` and `difference`, each with `_low` and `_high`; the
      means `before` and `after`; the number of pairs `n`, of `seeds` and of `worlds`; and the
      changes `by_seed`, of one world after the other.
    """
    found = [[measures(run, world.catalogue, signal) for run in world.runs] for world in worlds]
    values = [
        Pairs(
            *(
                np.array(
                    [[getattr(one, side) for one in seeds] for seeds in zip(*runs, strict=True)]
                )
                for side in ("after_S", "before_S")
            )
        )
        for runs in found
    ]
    names = ({"what": m.what, "kind": m.kind, "K": m.K} for m in found[0][0])
    rows = changes(values, resamples, seed)
    return [name | row for name, row in zip(names, rows, strict=True)]


def headline(world: Lists, signal: str) -> Pairs:
    """Returns what is behind the headline, M = 4.

    Similarities of the lists by cluster and by creator, then the probabilities of the two kinds.
    """
    sides, kinds = [], kinds_of(world.catalogue)
    for branch in (BRANCHES.index(signal), 0):
        similar = [
            [similarity(x.branch_BSK[branch][:, : LENGTHS[0]], x.item_S, v) for x in world.runs]
            for v in kinds.values()
        ]
        mass = [
            [_known(x.mass_BS2[branch, :, k], x.item_S, v) for x in world.runs]
            for k, v in enumerate(kinds.values())
        ]
        sides.append(np.array(similar + mass))
    return Pairs(*sides)


def figures(name: str, rows: list[dict[str, Any]], signal: str = "dislike") -> dict[str, float]:
    """Returns the headline figures of an arm by name, at the first list length.

    They are `responsiveness/…`, the change after the signal, `mass/…`, the same of the probability
    of item k's kind, and `specificity/…`.
    """
    head = {(r["what"], r["kind"]): r for r in reversed(rows)}  # keeps the first K of each
    named = {
        f"{figure}/{name}/{kind}{end}": head[what, kind][f"change{end}"]
        for figure, what in (("responsiveness", signal), ("mass", MASS))
        for kind in KINDS
        for end in ENDS
    }
    return named | {
        f"specificity/{name}{end}": head["specificity", "cluster"][f"change{end}"] for end in ENDS
    }
