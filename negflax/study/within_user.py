"""Does an earlier rejection say anything personal: rejected against accepted items of one user.

The held-out events are what users accepted and what they rejected. Pairs of the same user leave out
that some reject more than others, and comparison with the item's own rate of rejections (the floor)
leaves out that some items are rejected by all. What then remains is taste. A regression on the raw
data gives the bound: how much the user's feedback before the period, on the same cluster or
creator, adds at all. With clusters and creators dealt to the items at random, it must add nothing.

Only surfaces on which users can reject count: where a log has no skips on a page, an event there is
accepted for where it was, not for what it was, and its items would look good.

Shapes: J judged events in the order of the log, F features, U users, B resamples.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from negflax.data import SPLITS, DataError, Sequences

PRIOR_EVENTS = 5.0  # weight of the mean rate in an item's rate, and of 0 in a user's residuals
MIN_REJECTED = 0.05  # share of rejections among the labels of a surface, below which it is left out
STEPS, RIDGE = 25, 1.0  # of the logistic regression


class Judged(NamedTuple):
    """Events with a label.

    Attributes:
      event_J: their places in the log.
      user_J: their users.
      item_J: catalogue rows.
      rejected_J: whether the label is negative.
      split_J: 0 train, 1 valid, 2 test.
    """

    event_J: np.ndarray
    user_J: np.ndarray
    item_J: np.ndarray
    rejected_J: np.ndarray
    split_J: np.ndarray

    def of(self, split: str) -> np.ndarray:
        """Which of them are of a split."""
        return self.split_J == SPLITS.index(split)


def period_begins(judged: Judged, sequences: Sequences) -> np.ndarray:
    """(J,) places in the log of the user's first event of the same period."""
    users, splits = len(sequences.user_ids), len(SPLITS)
    user_E = np.repeat(np.arange(users), np.diff(sequences.offsets_U1))
    first_P = np.full(users * splits, len(user_E))
    period_E = user_E * splits + sequences.split_E
    np.minimum.at(first_P, period_E, np.arange(len(user_E)))
    return first_P[judged.user_J * splits + judged.split_J]


def judged_events(sequences: Sequences) -> Judged:
    """All events with a label, of all splits, on surfaces with at least MIN_REJECTED."""
    rejected_E = sequences.negative_weight_E > 0
    labelled_E = (sequences.positive_weight_E > 0) | rejected_E
    labelled_E &= sequences.item_E > 0
    surface_E = sequences.surface_E.astype(np.int64)
    labels, rejected = (
        np.bincount(surface_E[x], minlength=256) for x in (labelled_E, labelled_E & rejected_E)
    )
    event_J = np.flatnonzero(labelled_E & (rejected >= MIN_REJECTED * labels)[surface_E])
    return Judged(
        event_J,
        np.searchsorted(sequences.offsets_U1, event_J, side="right") - 1,
        sequences.item_E[event_J],
        sequences.negative_weight_E[event_J] > 0,
        sequences.split_E[event_J],
    )


def require_both_signs(judged: Judged) -> None:
    """Refuses a log whose validation or test period does not have what is compared.

    Raises:
      DataError: one of them has no rejected, or no accepted event.
    """
    for split in ("valid", "test"):
        asked_J = judged.of(split)
        rejected = int((judged.rejected_J & asked_J).sum())
        accepted = int(asked_J.sum()) - rejected
        if not (rejected and accepted):
            raise DataError(
                f"the {split} period has {rejected:,} rejected and {accepted:,} accepted events "
                f"on surfaces with at least {MIN_REJECTED:.0%} rejections among the labels: both "
                "are needed in both periods (config.data.valid_fraction, config.labels.negative)"
            )


def item_floor(judged: Judged, rows: int) -> np.ndarray:
    """(J,) smoothed rate of rejections of the item in earlier periods.

    In training it is that of the other events of training.
    """
    found_J = np.zeros(len(judged.event_J))
    for split, name in enumerate(SPLITS):
        known_J, asked_J = judged.split_J < max(1, split), judged.of(name)
        count_V = np.bincount(judged.item_J[known_J], minlength=rows).astype(float)
        rejected_V = np.bincount(
            judged.item_J[known_J], judged.rejected_J[known_J].astype(float), minlength=rows
        )
        mean = rejected_V.sum() / max(1.0, count_V.sum())
        own_J = float(split == 0)
        rejected_J = rejected_V[judged.item_J] - own_J * judged.rejected_J
        count_J = count_V[judged.item_J] - own_J
        rate_J = (rejected_J + PRIOR_EVENTS * mean) / (count_J + PRIOR_EVENTS)
        found_J[asked_J] = rate_J[asked_J]
    return found_J


def earlier_residuals(
    judged: Judged, floor_J: np.ndarray, group_J: np.ndarray | None = None
) -> np.ndarray:
    """(J,) shrunk mean of (rejected − floor) over the user's events of a group before a period.

    Events of the same period are left out. Of a user's few events, those that are rejected have one
    rejection less among the others: with them, means would be low before rejections, and AUCs below
    one half where nothing is personal. In training, which is the first period, they are 0.

    Args:
      judged: the events.
      floor_J: expected rate of each.
      group_J: cluster or creator of each, 0 unknown; the mean is relative to the user's own, as
        that orders no pair. None: the user's events altogether.
    """
    user_J, found_J = judged.user_J, np.zeros(len(judged.user_J))
    for split, name in enumerate(SPLITS):
        known_J, asked_J = judged.split_J < split, judged.of(name)
        residual_J = judged.rejected_J - floor_J
        mean_J = _shrunk_means(residual_J, user_J, known_J)
        if group_J is not None:
            key_J = user_J.astype(np.int64) * (int(group_J.max()) + 1) + group_J
            mean_J = _shrunk_means(residual_J - mean_J, key_J, known_J) * (group_J > 0)
        found_J[asked_J] = mean_J[asked_J]
    return found_J


def _shrunk_means(value_J: np.ndarray, key_J: np.ndarray, known_J: np.ndarray) -> np.ndarray:
    """(J,) of each event the mean of the known ones with its key, shrunk towards 0."""
    _, key_J = np.unique(key_J, return_inverse=True)
    total_K, count_K = (
        np.bincount(key_J[known_J], x[known_J], minlength=int(key_J.max()) + 1)
        for x in (value_J, np.ones(len(key_J)))
    )
    return (total_K / (count_K + PRIOR_EVENTS))[key_J]


def log_odds(rate: np.ndarray) -> np.ndarray:
    """Log-odds of rates, away from 0 and 1."""
    rate = np.clip(rate, 1e-4, 1 - 1e-4)
    return np.log(rate / (1 - rate))


def regression(x_JF: np.ndarray, y_J: np.ndarray) -> np.ndarray:
    """(F + 1,) coefficients of a logistic regression, the constant last, with a weak ridge."""
    x = np.column_stack([x_JF, np.ones(len(x_JF))])
    theta = np.zeros(x.shape[1])
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ theta, -30, 30)))
        hessian = x.T @ (x * (p * (1 - p))[:, None]) + RIDGE * np.eye(len(theta))
        theta -= np.linalg.solve(hessian, x.T @ (p - y_J) + RIDGE * theta)
    return theta


def predicted(
    x_JF: np.ndarray, y_J: np.ndarray, fit_J: np.ndarray, left_out: int = 0
) -> np.ndarray:
    """(J,) log-odds of a rejection for all events, by a regression on those of `fit_J`.

    The last `left_out` features are fitted and then left out.
    """
    theta = regression(x_JF[fit_J], y_J[fit_J].astype(float))
    used = x_JF.shape[1] - left_out
    return x_JF[:, :used] @ theta[:used] + theta[-1]


def user_aucs(score_J: np.ndarray, judged: Judged, asked_J: np.ndarray) -> np.ndarray:
    """(U,) share of a user's (rejected, accepted) pairs in order, ties as half; NaN without pair.

    A higher score means a rejection.
    """
    users = int(judged.user_J.max()) + 1
    found_U = np.full(users, np.nan)
    place = np.flatnonzero(asked_J)
    edges = np.flatnonzero(np.diff(judged.user_J[place], prepend=-1, append=-1))
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        mine = place[start:stop]
        bad = score_J[mine][judged.rejected_J[mine]]
        good = score_J[mine][~judged.rejected_J[mine]]
        if len(bad) and len(good):
            difference = bad[:, None] - good[None]
            found_U[judged.user_J[mine[0]]] = ((difference > 0) + 0.5 * (difference == 0)).mean()
    return found_U


def difference(
    auc_XU: np.ndarray, floor_U: np.ndarray, resamples: int, seed: int
) -> tuple[float, float, float]:
    """(mean, low, high) of AUC − that of the floor; intervals over users and, if several, seeds.

    Args:
      auc_XU: of X training seeds.
      floor_U: of the floor.
      resamples: B; with 0 the interval is NaN.
      seed: of the bootstrap.

    Raises:
      DataError: no user has both a rejected and an accepted event.
    """
    known_U = ~np.isnan(floor_U)
    if not known_U.any():
        raise DataError("no user has both a rejected and an accepted event in the test period")
    gain_XU = auc_XU[:, known_U] - floor_U[known_U]
    if not resamples:
        return float(gain_XU.mean()), float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    users, runs = gain_XU.shape[1], len(gain_XU)
    draws_B = []
    for _ in range(resamples):
        chosen = gain_XU[rng.integers(0, runs, runs)].mean(axis=0)
        draws_B.append(chosen[rng.integers(0, users, users)].mean())
    low, high = np.percentile(draws_B, [2.5, 97.5])
    return float(gain_XU.mean()), float(low), float(high)
