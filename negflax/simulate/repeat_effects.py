"""How much a user's last feedback on a topic or creator tells about the next, beyond item and user.

A rejected item is mostly a bad one, and shown to a user who rejects much. So the effect is the
coefficient in a linear regression of the rejection of an event on that of the user's last event of
the same kind, adjusted for the leave-one-out rejection rates of both items and of the user. These
rates are noisy, which leaves some confounding: the same with kinds permuted over items shows how
much, and only the difference is about the kind.

Shapes: E events in the order of users and time, P pairs of an event and the last of its kind, U
users, B resamples, X regressors.
"""

from __future__ import annotations

import numpy as np

from negflax.evaluate.bootstrap import percentile_interval, ratio, resampled_means

Interval = tuple[float, float, float]


def repeat_effect(
    user_E: np.ndarray,
    item_E: np.ndarray,
    kind_E: np.ndarray,
    rejected_E: np.ndarray,
    accepted_E: np.ndarray,
    resamples: int = 1_000,
) -> Interval:
    """Returns the adjusted effect of a rejected last event of the kind, against an accepted one.

    Args:
      user_E: user of each event, from 0, ascending.
      item_E: item, from 0.
      kind_E: kind of the item; < 0: unknown, and left out.
      rejected_E: float, 1 for a rejection, 0 for none; NaN for events that are left out.
      accepted_E: bool, whether a view that was no rejection was a clear acceptance.
      resamples: number of resamples of users.

    Returns:
      (estimate, low, high), a difference of probabilities; NaN with too few pairs of events.
    """
    known_E = np.isfinite(rejected_E) & (kind_E >= 0)
    user_E, item_E, kind_E, rejected_E, accepted_E = (
        x[known_E] for x in (user_E, item_E, kind_E, rejected_E, accepted_E)
    )
    here_P, last_P = last_of_kind(user_E, kind_E)
    clear_P = (rejected_E[last_P] == 1) | accepted_E[last_P]
    here_P, last_P = here_P[clear_P], last_P[clear_P]
    y_P, x_P = rejected_E[here_P], rejected_E[last_P]
    # Of the user's rate both events are left out, of each item's rate the event itself.
    total_U, count_U = _sums(user_E, rejected_E)
    user_P, rate_E = user_E[here_P], _leave_one_out(item_E, rejected_E)
    others_P = count_U[user_P] - 2
    user_rate_P = (total_U[user_P] - y_P - x_P) / np.maximum(others_P, 1)
    ones_P = np.ones(len(y_P))
    columns = ones_P, rate_E[here_P], rate_E[last_P], user_rate_P, x_P
    able_P = others_P > 0
    if able_P.sum() <= len(columns):
        return np.nan, np.nan, np.nan
    regressors_PX = np.stack(columns, axis=1)[able_P]
    return _coefficient(regressors_PX, y_P[able_P], user_P[able_P], resamples)


def last_of_kind(user_E: np.ndarray, kind_E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the events that have an earlier one of the same user and kind, and the last such."""
    order = np.lexsort((np.arange(len(user_E)), kind_E, user_E))
    same = (np.diff(user_E[order]) == 0) & (np.diff(kind_E[order]) == 0)
    return order[1:][same], order[:-1][same]


def ratio_after(flag_E: np.ndarray, given_E: np.ndarray, user_E: np.ndarray) -> Interval:
    """Returns P(flag | given) / P(flag) with its interval over users; NaN events are left out."""
    known_E = np.isfinite(flag_E) & np.isfinite(given_E)
    flag, given, user = flag_E[known_E], given_E[known_E], user_E[known_E]
    columns = np.stack([flag, flag], axis=1)
    weights = np.stack([given, np.ones(len(given))], axis=1)
    draws = resampled_means(columns, weights, resamples=1_000, seed=0, user_R=user)
    value = ratio(ratio((flag * given).sum(), given.sum()), flag.mean())
    return float(value), *percentile_interval(ratio(draws[:, 0], draws[:, 1]))


def _sums(group_E: np.ndarray, value_E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.bincount(group_E, value_E), np.bincount(group_E)


def _leave_one_out(group_E: np.ndarray, value_E: np.ndarray) -> np.ndarray:
    """Returns the mean of an event's group without the event; of all events if it is alone."""
    total, count = (x[group_E] for x in _sums(group_E, value_E))
    return np.where(count > 1, (total - value_E) / np.maximum(count - 1, 1), value_E.mean())


def _coefficient(
    regressors_PX: np.ndarray, y_P: np.ndarray, user_P: np.ndarray, resamples: int
) -> Interval:
    """Returns the last coefficient of least squares, with its interval over users."""
    width = regressors_PX.shape[1]
    joint_PX = np.column_stack([regressors_PX, y_P])
    upper = np.triu_indices(width + 1)
    products_PC = joint_PX[:, upper[0]] * joint_PX[:, upper[1]]
    ones = np.ones_like(products_PC)
    draws_BC = resampled_means(products_PC, ones, resamples=resamples, seed=0, user_R=user_P)

    def solve(mean_BC: np.ndarray) -> np.ndarray:
        moments = np.zeros((len(mean_BC), width + 1, width + 1))
        moments[:, upper[0], upper[1]] = moments[:, upper[1], upper[0]] = mean_BC
        return np.linalg.solve(moments[:, :width, :width], moments[:, :width, width:])[:, -1, 0]

    estimate = solve(products_PC.mean(axis=0)[None])[0]
    return float(estimate), *percentile_interval(solve(draws_BC))
