"""Histories for the simulated users, drawn from a log, and the effect of dislikes in that log.

Shapes: S users, T steps, E events, V catalogue rows.
"""

from __future__ import annotations

import numpy as np

from negflax.data import Catalogue, DataError, Sequences, features
from negflax.evaluate.bootstrap import paired_bootstrap
from negflax.simulate.arm import Events

SHORT_LONG_MS = np.array([3_000.0, 18_000.0])  # limits of a skip and of a long view in log_effect
HORIZON = 20  # number of events after a signal over which log_effect is measured


def draw_pairs(
    sequences: Sequences, pairs: int, k: int, later: int, seed: int
) -> tuple[Events, Events]:
    """Draws histories to branch, and the behaviour after the branch.

    Args:
      sequences: the log.
      pairs: number of pairs S; a user is drawn twice only if too few users have k events.
      k: number of events of a history, the newest ones of the user.
      later: number of steps after item k; their feedback is taken from random events of these
        histories.
      seed: random seed.

    Returns:
      Events 1 … k, (S, k), and codes of the later steps, (S, later), both int32.

    Raises:
      DataError: no user has k events, or the catalogue has no clusters or no creators.
    """
    catalogue = sequences.catalogue
    for name, kind_V in (
        ("cluster", catalogue.clusters_VC[:, 0]),
        ("creator", catalogue.creator_V),
    ):
        if not kind_V.any():
            raise DataError(
                f"{sequences.report.get('source', 'the log')}: no item has a {name}; "
                "responsiveness compares lists by cluster and creator"
            )
    event_ST = history_events(sequences, pairs, k, seed)
    rng = np.random.default_rng((seed, 1))
    event_SJ = event_ST.reshape(-1)[rng.integers(0, event_ST.size, (pairs, later))]
    return _events(sequences, event_ST), _events(sequences, event_SJ)


def history_events(sequences: Sequences, pairs: int, k: int, seed: int) -> np.ndarray:
    """Returns the indices in the log of the newest k events of S users, (S, k).

    Arguments are as in `draw_pairs`.

    Raises:
      DataError: no user has k events.
    """
    catalogue, stop_U = sequences.catalogue, sequences.offsets_U1[1:]
    able_U = np.flatnonzero(np.diff(sequences.offsets_U1) >= k)
    newest_U = stop_U[able_U] - 1
    known_U = catalogue.clusters_VC[sequences.item_E[newest_U], 0] > 0
    if sequences.dwell_E.any():  # part of a log may lack dwell times, but item k needs one
        known_U &= sequences.dwell_E[newest_U] > 0
    able_U = able_U[known_U]
    if not len(able_U):
        raise DataError(f"no user has a history of {k} events: choose a smaller --k")
    rng = np.random.default_rng(seed)
    user_S = rng.choice(able_U, pairs, replace=pairs > len(able_U))
    return stop_U[user_S][:, None] + np.arange(-k, 0)


def _events(sequences: Sequences, event: np.ndarray) -> Events:
    def codes(name: str) -> np.ndarray:
        column_E = getattr(sequences, f"{name}_E")
        return np.zeros(event.shape) if column_E is None else column_E[event]

    return Events(*(codes(name).astype(np.int32) for name in Events._fields))


def chance(catalogue: Catalogue, item_S: np.ndarray, kind_V: np.ndarray) -> float:
    """Returns the expected similarity of a random list: the mean catalogue share of k's kind."""
    share = np.bincount(kind_V[1:], minlength=kind_V.max() + 1) / (catalogue.num_rows - 1)
    kind_S = kind_V[item_S]
    return float(share[kind_S[kind_S > 0]].mean())


def log_effect(
    sequences: Sequences, kind_V: np.ndarray, resamples: int, seed: int, signal: str = "dislike"
) -> tuple[float, float, float]:
    """Returns (estimate, low, high) of the signal's effect in the log: observed, not causal.

    The effect is a ratio minus 1. It compares the share of the item's kind among the user's
    positives in the next 20 events: after a long view with a dislike relative to a long view
    without one, or after a skip relative to a long view. Intervals are bootstrapped over users.
    """
    user_E = np.repeat(np.arange(len(sequences.user_ids)), np.diff(sequences.offsets_U1))
    kind_E, count = kind_V[sequences.item_E], len(user_E)
    same_E, positive_E = np.zeros((2, count))
    for ahead in range(1, HORIZON + 1):
        here, there = slice(0, count - ahead), slice(ahead, count)
        good = (user_E[here] == user_E[there]) & (sequences.positive_weight_E[there] > 0)
        positive_E[here] += good
        same_E[here] += good & (kind_E[here] == kind_E[there])
    short, long = features.dwell_codes(SHORT_LONG_MS)
    skip_E = (sequences.dwell_E > 0) & (sequences.dwell_E < short)
    long_E = sequences.dwell_E >= long
    disliked_E, not_E = (long_E & (sequences.dislike_E == code) for code in (2, 1))
    values, weights = [], []
    for chosen_E in {"dislike": (disliked_E, not_E), "skip": (skip_E, long_E)}[signal]:
        of_E = chosen_E & (kind_E > 0) & (positive_E > 0)
        weight_U = np.bincount(user_E[of_E], positive_E[of_E], len(sequences.user_ids))
        total_U = np.bincount(user_E[of_E], same_E[of_E], len(sequences.user_ids))
        with np.errstate(invalid="ignore"):
            values.append(total_U / weight_U)
        weights.append(weight_U)
    found = paired_bootstrap(
        *values, "mean_ratio", resamples=resamples, seed=seed, weights_R=(weights[0], weights[1])
    )
    return tuple(x - 1 for x in found)
