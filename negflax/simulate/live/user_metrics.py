"""Metrics of a live experiment, as per-user sums over a log, and daily curves.

Every metric is a ratio of two sums over users.

Shapes: N visits, in order of time within each user; U users, E items played, D days.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from negflax.evaluate.bootstrap import ratio
from negflax.simulate.live.user_log import Log

WINDOW = 20  # number of newest items over which cluster entropy is computed
LONG_DAY_S = 300.0  # seconds of dwell that make a long day; the paper uses an hour

# metric → description
METRICS: dict[str, str] = {
    "dislike_rate": "dislikes per item played",
    "repeated_dislikes": "dislikes of a creator disliked before, per item played",
    "dismissals": "dismissals per item looked at",
    "dismissing_users": "days with a dismissal, per user",
    "viewers": "days with an item played, per user",
    "skip_rate": "skips per item played",
    "repeated_skips": "skips of a creator skipped before, per item played",
    "satisfied": "long views without a dislike, per user",
    "unsatisfied": "skips and dislikes, per user",
    "enjoyment": "mean σ(true affinity) of the items played",
    "dwell": "seconds of watching, per user",
    "long_days": f"days with {LONG_DAY_S / 60:g} min of watching, per user",
    "session_length": "items played per session",
    "ctr": "items played per item looked at",
    "clusters": "distinct clusters played, per user",
    "creators": "distinct creators played, per user",
    "cluster_entropy": f"bits, of the clusters of the newest {WINDOW} items, per user and day",
}


class Sums(NamedTuple):
    """Per-user sums of one arm on one surface.

    Attributes:
      numerator: metric → (U,) float64.
      denominator: metric → (U,) float64; 0 for users for whom the metric is undefined.
      curves: name → (D,) float64, means over users by day.
    """

    numerator: dict[str, np.ndarray]
    denominator: dict[str, np.ndarray]
    curves: dict[str, np.ndarray]


def measure(
    log: Log,
    first_day: int,
    days: int,
    creator_I: np.ndarray,
    cluster_I: np.ndarray,
    member_U: np.ndarray,
) -> Sums:
    """Computes the sums over the log of an arm.

    Args:
      log: visits; those before `first_day` only decide which dislikes and skips are repeated.
      first_day: index of the first day of the experiment.
      days: number of days D.
      creator_I: creator of each item.
      cluster_I: cluster of each item.
      member_U: bool, which users belong to the arm.
    """
    users = len(member_U)
    order_N = np.argsort(log["user"], kind="stable")
    log = {name: column[order_N] for name, column in log.items()}
    played_N = log["item"] >= 0
    play = {name: column[played_N] for name, column in log.items()}
    again = {
        kind: _repeated(play["user"], creator_I[play["item"]], play[kind])
        for kind in ("dislike", "skip")
    }
    entropy_UD = _entropy(play, users, first_day, days, cluster_I)

    now_N, now_E = log["day"] >= first_day, play["day"] >= first_day
    log = {name: column[now_N] for name, column in log.items()}
    play = {name: column[now_E] for name, column in play.items()}
    again = {kind: flag_E[now_E] for kind, flag_E in again.items()}
    rejected_E = play["dislike"] | play["skip"]
    satisfied_E = play["long_view"] & ~play["dislike"]

    def per_user(table: Log, weights: Any = None) -> np.ndarray:
        return np.bincount(table["user"], weights, users).astype(np.float64)

    def days_of(table: Log, weights: np.ndarray, least: float) -> np.ndarray:
        place = table["user"].astype(np.int64) * days + table["day"] - first_day
        total_UD = np.bincount(place, weights, users * days).reshape(users, days)
        return (total_UD >= least).sum(1).astype(np.float64)

    def distinct(kind_I: np.ndarray) -> np.ndarray:
        pairs = np.unique(np.stack([play["user"], kind_I[play["item"]]]), axis=1)
        return np.bincount(pairs[0], minlength=users).astype(np.float64)

    played_U, seen_U = per_user(play), per_user(log, log["seen"])
    member_U = member_U.astype(np.float64)
    known_UD = np.isfinite(entropy_UD)
    pairs = {
        "dislike_rate": (per_user(play, play["dislike"]), played_U),
        "repeated_dislikes": (per_user(play, again["dislike"]), played_U),
        "dismissals": (per_user(log, log["dismissals"]), seen_U),
        "dismissing_users": (days_of(log, log["dismissals"], 1), member_U),
        "viewers": (days_of(play, np.ones(len(rejected_E)), 1), member_U),
        "skip_rate": (per_user(play, play["skip"]), played_U),
        "repeated_skips": (per_user(play, again["skip"]), played_U),
        "satisfied": (per_user(play, satisfied_E), member_U),
        "unsatisfied": (per_user(play, rejected_E), member_U),
        "enjoyment": (per_user(play, play["enjoyment"]), played_U),
        "dwell": (per_user(play, play["dwell_ms"] / 1_000), member_U),
        "long_days": (days_of(play, play["dwell_ms"] / 1_000, LONG_DAY_S), member_U),
        "session_length": (played_U, per_user(log, log["begins"])),
        "ctr": (played_U, seen_U),
        "clusters": (distinct(cluster_I), member_U),
        "creators": (distinct(creator_I), member_U),
        "cluster_entropy": (np.nansum(entropy_UD, 1), known_UD.sum(1).astype(np.float64)),
    }
    by_day = {"day": play["day"] - first_day}
    played_D = np.bincount(by_day["day"], minlength=days)
    with np.errstate(invalid="ignore"):
        curves = {
            name: np.bincount(by_day["day"], flag_E, days) / played_D
            for name, flag_E in (
                ("dislike_rate", play["dislike"]),
                ("skip_rate", play["skip"]),
                ("enjoyment", play["enjoyment"]),
            )
        }
        curves["cluster_entropy"] = np.nansum(entropy_UD, 0) / known_UD.sum(0)
    return Sums(
        {name: pair[0] for name, pair in pairs.items()},
        {name: pair[1] for name, pair in pairs.items()},
        curves,
    )


def level(sums: Sums, metric: str) -> float:
    """Returns the value of a metric, NaN if undefined."""
    return float(ratio(sums.numerator[metric].sum(), sums.denominator[metric].sum()))


def _repeated(user_E: np.ndarray, kind_E: np.ndarray, flag_E: np.ndarray) -> np.ndarray:
    """Returns which events are flagged after an earlier flagged event of the same user and kind.

    (E,) bool; events of a user are in order of time.
    """
    flagged = np.flatnonzero(flag_E)
    pair = user_E[flagged].astype(np.int64) * (kind_E.max(initial=0) + 1) + kind_E[flagged]
    _, first = np.unique(pair, return_index=True)
    repeated_E = np.zeros(len(flag_E), bool)
    repeated_E[flagged] = True
    repeated_E[flagged[first]] = False
    return repeated_E


def _entropy(play: Log, users: int, first_day: int, days: int, cluster_I: np.ndarray) -> np.ndarray:
    """Returns the entropy, in bits, of the clusters of the newest WINDOW items at the end of a day.

    (U, D); NaN for days on which the user played nothing, or has played fewer than WINDOW items.
    """
    user_E, cluster_E = play["user"], cluster_I[play["item"]]
    day_E = play["day"] - first_day
    last_E = np.ones(len(user_E), bool)
    last_E[:-1] = (user_E[1:] != user_E[:-1]) | (day_E[1:] != day_E[:-1])
    end_M = np.flatnonzero(last_E & (day_E >= 0))
    end_M = end_M[end_M >= WINDOW - 1]
    end_M = end_M[user_E[end_M - WINDOW + 1] == user_E[end_M]]
    window_MW = cluster_E[end_M[:, None] - np.arange(WINDOW)]
    same_MW = (window_MW[:, :, None] == window_MW[:, None, :]).sum(2)
    entropy_UD = np.full((users, days), np.nan)
    entropy_UD[user_E[end_M], day_E[end_M]] = np.log2(WINDOW / same_MW).mean(1)
    return entropy_UD
