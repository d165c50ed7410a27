"""What a user did with each kind of item: counts of feedback by cluster or creator.

All counts come from the codes of past events (negflax/data/features.py), which training,
evaluation, lists and sessions have alike. Kind 0, unknown, is not counted.

Shapes: R queries, H events of all their histories, P pairs of a query and a kind in its history,
V catalogue rows, F statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from negflax.data import Catalogue, Sequences, features
from negflax.data.histories import history_events

# `last_…`: number, from 1, of the event at which the user last had or disliked the kind, else 0.
COUNTS = ("seen", "dislike", "dismissal", "skip", "long_view", "enjoyed")
STATISTICS = (*COUNTS, "last_seen", "last_dislike")
LAST_SEEN, LAST_DISLIKE = len(COUNTS), len(COUNTS) + 1
YES = 2  # code of a bit
SHORT_DWELL, LONG_DWELL = (int(x) for x in features.dwell_codes(np.array([3_000.0, 18_000.0])))
WHOLE = int(features.watch_ratio_codes(np.ones(1), np.ones(1))[0])


class KindCounts(NamedTuple):
    """Counts of R users by one kind of item, only of what is in their histories.

    Attributes:
      user_P: int64, which of the R users, nondecreasing.
      kind_P: int32, cluster or creator, ascending within a user.
      stats_PF: int32, see STATISTICS.
      events_R: int64, events of each user's history.
    """

    user_P: np.ndarray
    kind_P: np.ndarray
    stats_PF: np.ndarray
    events_R: np.ndarray


def kind_of_items(catalogue: Catalogue, kind: str) -> np.ndarray:
    """(V,) int32 cluster (the first) or creator of every row, 0 unknown."""
    return catalogue.creator_V if kind == "creator" else catalogue.clusters_VC[:, 0]


def event_bits(dislike: Any, dismissal: Any, dwell: Any, watch_ratio: Any) -> tuple[Any, ...]:
    """(dislike, dismissal, skip, long view, enjoyed) by codes of events; arrays of any kind.

    Enjoyed is a long view without a dislike.
    """
    disliked = dislike == YES
    long_view = (dwell >= LONG_DWELL) | (watch_ratio >= WHOLE)
    skip = (dwell > 0) & (dwell < SHORT_DWELL)
    return disliked, dismissal == YES, skip, long_view, long_view & (dislike != YES)


def counts_of(
    sequences: Sequences, user_R: np.ndarray, end_R: np.ndarray, kind_V: np.ndarray
) -> KindCounts:
    """Counts over the whole history of every query.

    Args:
      sequences: events of all users.
      user_R: user of each query.
      end_R: absolute event index at which its history ends, exclusive.
      kind_V: see `kind_of_items`.
    """
    user_R, end_R = np.asarray(user_R, np.int64), np.asarray(end_R, np.int64)
    events_R = end_R - sequences.offsets_U1[user_R]
    query_H, event_H = history_events(sequences, user_R, end_R)
    number_H = event_H - sequences.offsets_U1[user_R][query_H] + 1
    kind_H = kind_V[sequences.item_E[event_H]]
    known = kind_H > 0
    query_H, event_H, number_H, kind_H = (x[known] for x in (query_H, event_H, number_H, kind_H))
    kinds = int(kind_V.max()) + 1
    pair_P, place_H = np.unique(query_H * kinds + kind_H, return_inverse=True)
    dismissal_E = sequences.dismissal_E
    bits = event_bits(
        sequences.dislike_E[event_H],
        np.zeros(len(event_H), np.uint8) if dismissal_E is None else dismissal_E[event_H],
        sequences.dwell_E[event_H],
        sequences.watch_ratio_E[event_H],
    )
    stats_PF = np.zeros((len(pair_P), len(STATISTICS)), np.int32)
    stats_PF[:, 0] = np.bincount(place_H, minlength=len(pair_P))
    for column, bit_H in enumerate(bits, start=1):
        stats_PF[:, column] = np.bincount(place_H[bit_H], minlength=len(pair_P))
    np.maximum.at(stats_PF[:, LAST_SEEN], place_H, number_H)
    np.maximum.at(stats_PF[:, LAST_DISLIKE], place_H[bits[0]], number_H[bits[0]])
    user_P, kind_P = np.divmod(pair_P, kinds)
    return KindCounts(user_P, kind_P.astype(np.int32), stats_PF, events_R)


class UserCounts:
    """The counts of one user who is being served, event by event.

    Attributes:
      events: events so far.
      by_kind: `cluster` or `creator` → its number → statistics.
    """

    def __init__(self) -> None:
        """Nothing seen."""
        self.events = 0
        self.by_kind: dict[str, dict[int, list[int]]] = {"cluster": {}, "creator": {}}

    def add(self, codes: Mapping[str, int]) -> None:
        """Counts an event by its codes, named as the fields of Batch."""
        self.events += 1
        names = ("dislike", "dismissal", "dwell", "watch_ratio")
        bits = event_bits(*(int(codes[name]) for name in names))
        for kind, by_number in self.by_kind.items():
            if not codes[kind]:
                continue
            stats = by_number.setdefault(int(codes[kind]), [0] * len(STATISTICS))
            stats[0] += 1
            for column, bit in enumerate(bits, start=1):
                stats[column] += bool(bit)
            stats[LAST_SEEN] = self.events
            if bits[0]:
                stats[LAST_DISLIKE] = self.events

    def copy(self) -> UserCounts:
        """Counts that no further event changes."""
        other = UserCounts()
        other.events = self.events
        other.by_kind = {
            kind: {number: list(stats) for number, stats in by_number.items()}
            for kind, by_number in self.by_kind.items()
        }
        return other

    def arrays(self) -> dict[str, np.ndarray]:
        """Of each kind int32 (pairs, 1 + F): its number and statistics."""
        return {
            kind: np.array(
                [[number, *stats] for number, stats in sorted(by_number.items())], np.int32
            ).reshape(-1, 1 + len(STATISTICS))
            for kind, by_number in self.by_kind.items()
        }

    @classmethod
    def of_arrays(cls, events: int, arrays: Mapping[str, np.ndarray]) -> UserCounts:
        """What `arrays` gave."""
        counts = cls()
        counts.events = events
        for kind in counts.by_kind:
            counts.by_kind[kind] = {int(row[0]): row[1:].tolist() for row in arrays[kind]}
        return counts


def split_by_user(counts: Mapping[str, KindCounts]) -> list[UserCounts]:
    """The counts of every user apart."""
    events_R = next(iter(counts.values())).events_R
    found = [UserCounts() for _ in events_R]
    for user, one in enumerate(found):
        one.events = int(events_R[user])
    for kind, of_kind in counts.items():
        for user, number, stats in zip(
            of_kind.user_P.tolist(),
            of_kind.kind_P.tolist(),
            of_kind.stats_PF.tolist(),
            strict=True,
        ):
            found[user].by_kind[kind][number] = stats
    return found


def joined(users: Sequence[UserCounts], kind: str, length: int) -> KindCounts:
    """The counts of several users by one kind, and of nobody up to `length` of them."""
    rows = [one.arrays()[kind] for one in users]
    table = np.concatenate([*rows, np.zeros((0, 1 + len(STATISTICS)), np.int32)])
    user_P = np.repeat(np.arange(len(users)), [len(x) for x in rows])
    events_R = np.zeros(length, np.int64)
    events_R[: len(users)] = [one.events for one in users]
    return KindCounts(user_P, table[:, 0], table[:, 1:], events_R)
