"""Queries and their judged items: the test cases of an evaluation (docs/method.md §5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from negflax.config import EvalConfig
from negflax.data import SPLITS, Sequences


class EvaluationError(ValueError):
    """Raised if an evaluation cannot be run or would be invalid; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Queries:
    """R queries, each for one user at one point of their history, with J judged items in total.

    Attributes:
      user_R: int64, index of the user in `Sequences`.
      end_R: int64, index of the event at which the history ends (exclusive).
      judged_offsets_R1: int64; query r has the judged items offsets[r] to offsets[r+1] - 1.
      judged_item_J: int32 catalogue rows, distinct within a query.
      judged_positive_J: bool, True: in P* (liked and not also disliked in the window); False: in N.
    """

    user_R: np.ndarray
    end_R: np.ndarray
    judged_offsets_R1: np.ndarray
    judged_item_J: np.ndarray
    judged_positive_J: np.ndarray

    def __len__(self) -> int:
        """Returns the number of queries R."""
        return len(self.user_R)

    @property
    def query_J(self) -> np.ndarray:
        """Query of each judged item, int64."""
        return np.repeat(np.arange(len(self)), np.diff(self.judged_offsets_R1))

    @classmethod
    def of_users(cls, user_R: np.ndarray, end_R: np.ndarray) -> Queries:
        """Returns queries without judged items."""
        nothing = np.zeros(0, np.int32), np.zeros(0, bool)
        return cls(user_R, end_R, np.zeros(len(user_R) + 1, np.int64), *nothing)

    def block(self, start: int, stop: int) -> Queries:
        """Returns queries start to stop - 1 with their judged items."""
        stop = min(stop, len(self))
        first, last = self.judged_offsets_R1[start], self.judged_offsets_R1[stop]
        return Queries(
            user_R=self.user_R[start:stop],
            end_R=self.end_R[start:stop],
            judged_offsets_R1=self.judged_offsets_R1[start : stop + 1] - first,
            judged_item_J=self.judged_item_J[first:last],
            judged_positive_J=self.judged_positive_J[first:last],
        )

    def without_answers(self) -> Queries:
        """Returns the queries without judged items, which is what a scorer gets."""
        return Queries.of_users(self.user_R, self.end_R)


@dataclasses.dataclass(frozen=True)
class LazyScores:
    """Scores (R, V) whose columns are computed when they are read: `scores[:, start:stop]`.

    Attributes:
      shape: (R, V).
      columns: function from a slice within 0..V to float (R, columns).
    """

    shape: tuple[int, int]
    columns: Callable[[slice], np.ndarray]

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        rows, columns = key
        start, stop, _ = columns.indices(self.shape[1])
        return self.columns(slice(start, stop))[rows]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self[:, :], dtype, copy=copy)


# Maps a block of queries to scores over all V catalogue rows, float (R, V); row 0 is ignored. For
# large catalogues, return LazyScores in place of an array.
Scorer = Callable[[Queries], np.ndarray | LazyScores]

SCORES_ALIVE = 2**23  # largest number of scores of one scorer in memory


def chunks(num_rows: int, users: int) -> list[slice]:
    """Divides rows 1..V-1 into chunks of at most SCORES_ALIVE scores for a block of users."""
    size = max(1, SCORES_ALIVE // users)
    return [slice(row, min(row + size, num_rows)) for row in range(1, num_rows, size)]


def build_queries(
    sequences: Sequences,
    split: str,
    max_users: int = 0,
    seed: int = 0,
    state: str = EvalConfig.state,
) -> Queries:
    """Builds the queries of a split, whose events are the evaluation window (docs/method.md §5).

    `last_only`: one query per user with labelled events in the window. Its history has all events
    before the user's first event of the window, so no event of the window is an input. An item that
    is both positive and negative within the window counts as negative.

    `successive`: one query per labelled event of the window, with only this event judged. Its
    history has all events before this one. Earlier events of the window are inputs, since they have
    already been scored; the event's own feedback and later events are not.

    Args:
      sequences: events of all users.
      split: `valid` or `test`.
      max_users: size of a fixed sample of users; 0: all users.
      seed: seed of the sample.
      state: `last_only` or `successive`.

    Raises:
      EvaluationError: the split or state is unknown, or the split has no labelled event.
    """
    if split not in SPLITS[1:]:
        raise EvaluationError(f"split {split!r} cannot be evaluated: choose `valid` or `test`")
    if state not in ("last_only", "successive"):
        raise EvaluationError(f"state {state!r}: choose `last_only` or `successive`")
    labelled_E = (sequences.positive_weight_E > 0) | (sequences.negative_weight_E > 0)
    event_J = np.flatnonzero((sequences.split_E == SPLITS.index(split)) & labelled_E)
    if not len(event_J):
        raise EvaluationError(
            f"no event of the {split} period has a label: widen the period (config.data), check "
            "the label rules (config.labels)" + ", or train with test=False" * (split == "test")
        )
    user_J = np.searchsorted(sequences.offsets_U1, event_J, side="right") - 1
    if max_users:
        users = np.unique(user_J)
        chosen = np.random.default_rng(seed).permutation(len(users))[:max_users]
        keep_J = np.isin(user_J, users[chosen])
        event_J, user_J = event_J[keep_J], user_J[keep_J]
    if state == "successive":
        return each_event(sequences, event_J, user_J)
    return _windows(sequences, event_J, user_J, SPLITS.index(split))


def each_event(sequences: Sequences, event_J: np.ndarray, user_J: np.ndarray) -> Queries:
    """Returns one query per event, whose history ends just before it, with only it judged."""
    return Queries(
        user_R=user_J,
        end_R=event_J,
        judged_offsets_R1=np.arange(len(event_J) + 1),
        judged_item_J=sequences.item_E[event_J],
        judged_positive_J=sequences.positive_weight_E[event_J] > 0,
    )


def _windows(
    sequences: Sequences, event_J: np.ndarray, user_J: np.ndarray, split_code: int
) -> Queries:
    """Returns one query per user before the window, with each labelled item judged once."""
    offsets_U1, split_E = sequences.offsets_U1, sequences.split_E
    # One sortable number per (user, item); an item that is also negative counts as negative.
    rows = sequences.catalogue.num_rows
    pair_J = user_J * rows + sequences.item_E[event_J]
    negative = np.unique(pair_J[sequences.negative_weight_E[event_J] > 0])
    positive = np.setdiff1d(pair_J, negative)
    pair_J = np.concatenate([positive, negative])
    order = np.argsort(pair_J)
    user_R, count_R = np.unique(pair_J // rows, return_counts=True)

    before_E1 = np.concatenate([[0], np.cumsum(split_E < split_code)])
    history_R = before_E1[offsets_U1[user_R + 1]] - before_E1[offsets_U1[user_R]]
    return Queries(
        user_R=user_R,
        end_R=offsets_U1[user_R] + history_R,
        judged_offsets_R1=np.concatenate([[0], np.cumsum(count_R)]),
        judged_item_J=(pair_J[order] % rows).astype(np.int32),
        judged_positive_J=(np.arange(len(pair_J)) < len(positive))[order],
    )
