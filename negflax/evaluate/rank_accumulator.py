"""Accumulates ranks of judged items while the catalogue is scored in chunks.

Shapes: R queries, C rows of a chunk, J judged items, S (query, seen item) pairs, K list length,
F found candidates of lists.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from negflax.evaluate.protocol import Queries

_NOTHING = np.zeros(0, np.int64)


@dataclasses.dataclass(frozen=True)
class Ranks:
    """Ranks of the judged items, and the top of each list.

    Attributes:
      greater_J: int64, number of listed items with a strictly higher score.
      ties_J: int64, number of listed items with an equal score, itself included: its place is drawn
        uniformly from greater_J + 1 .. greater_J + ties_J.
      log_p_J: float64, log p(item), softmax over the whole catalogue (rows 1..V-1, seen or not).
      log_not_p_J: float64, log(1 - p(item)), without cancellation as p → 1.
      eligible_J: bool; False: seen before, so neither listed nor judged (masked mode only).
      list_RK: int32, the first K rows of each query; ties go to the lower row; 0 pads short lists.
        K is `list_length` of `rank_scorers`.
    """

    greater_J: np.ndarray
    ties_J: np.ndarray
    log_p_J: np.ndarray
    log_not_p_J: np.ndarray
    eligible_J: np.ndarray
    list_RK: np.ndarray


class RankAccumulator:
    """Accumulates the ranks of one scorer on one block of queries.

    It needs two passes over the same chunks: call `find` with every chunk, then `rank` with every
    chunk. So a judged item's score is compared with scores computed by the same operations, and
    equal items are exact ties.
    """

    def __init__(
        self,
        block: Queries,
        seen_query_S: np.ndarray,
        seen_item_S: np.ndarray,
        modes: tuple[bool, ...],
        list_length: int,
    ):
        """Takes the block and its distinct (query, seen item) pairs, in order of the queries."""
        self._query_J, self._item_J = block.query_J, block.judged_item_J
        self._seen_query_S, self._seen_item_S = seen_query_S, seen_item_S
        self._width = 1 + int(max(x.max(initial=0) for x in (self._item_J, seen_item_S)))
        self._score_J = np.zeros(len(self._item_J))
        self._seen_score_S = np.zeros(len(seen_item_S))
        self._greater_J, self._ties_J = (np.zeros(len(self._item_J), np.int64) for _ in range(2))
        self._top_R, self._rest_R = (np.full(len(block), -np.inf) for _ in range(2))
        self._lists = {masked: _Lists(len(block), list_length) for masked in modes}

    def find(self, scores_RC: np.ndarray, first: int) -> None:
        """First pass: stores scores of judged and seen items; `first` is the row of column 0."""
        for score_X, query_X, item_X in (
            (self._score_J, self._query_J, self._item_J),
            (self._seen_score_S, self._seen_query_S, self._seen_item_S),
        ):
            here = np.flatnonzero((item_X >= first) & (item_X < first + scores_RC.shape[1]))
            score_X[here] = scores_RC[query_X[here], item_X[here] - first]

    def rank(self, scores_RC: np.ndarray, first: int) -> None:
        """Second pass: updates counts, log-sum-exp and lists.

        The scores of a query are sorted, then each judged item takes log2(C) steps, so the cost
        hardly depends on the number of judged items.
        """
        sorted_RC = np.sort(scores_RC, axis=1)
        start_J = self._query_J * sorted_RC.shape[1]
        stop_J = start_J + sorted_RC.shape[1]
        upto_J, below_J = _places(sorted_RC.ravel(), start_J, stop_J, self._score_J)
        self._greater_J += stop_J - upto_J
        self._ties_J += upto_J - below_J
        self._add_to_logsumexp(sorted_RC)
        for masked, lists in self._lists.items():
            if not masked:
                lists.add(scores_RC, first, sorted_RC)
                continue
            here_S = (self._seen_item_S >= first) & (self._seen_item_S < first + scores_RC.shape[1])
            lists.add(
                scores_RC, first, sorted_RC, self._seen_query_S[here_S], self._seen_item_S[here_S]
            )

    def ranks(self, masked: bool) -> Ranks:
        """Returns the ranks, with seen items masked or kept."""
        greater_J, ties_J = self._greater_J, self._ties_J
        eligible_J = np.ones(len(self._item_J), bool)
        if masked:
            order_S = np.lexsort((self._seen_score_S, self._seen_query_S))
            start_J, stop_J = (
                np.searchsorted(self._seen_query_S, self._query_J, side=side)
                for side in ("left", "right")
            )
            upto_J, below_J = _places(self._seen_score_S[order_S], start_J, stop_J, self._score_J)
            greater_J, ties_J = greater_J - (stop_J - upto_J), ties_J - (upto_J - below_J)
            eligible_J = ~np.isin(
                self._query_J * self._width + self._item_J,
                self._seen_query_S * self._width + self._seen_item_S,
            )
        log_p_J, log_not_p_J = self._log_probabilities()
        list_RK = self._lists[masked].item_RK
        return Ranks(greater_J, ties_J, log_p_J, log_not_p_J, eligible_J, list_RK)

    def _add_to_logsumexp(self, sorted_RC: np.ndarray) -> None:
        """Adds a chunk to the log-sum-exp, stored as the best score and that of all others."""
        top_R, rest_R = sorted_RC[:, -1].astype(np.float64), np.full(len(sorted_RC), -np.inf)
        if sorted_RC.shape[1] > 1:
            second_R1 = sorted_RC[:, [-2]]
            share_R = np.exp(sorted_RC[:, :-1] - second_R1).sum(axis=1, dtype=np.float64)
            rest_R = second_R1[:, 0] + np.log(share_R)
        lower_R = np.minimum(self._top_R, top_R)
        self._rest_R = np.logaddexp(np.logaddexp(self._rest_R, rest_R), lower_R)
        self._top_R = np.maximum(self._top_R, top_R)

    def _log_probabilities(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns log p and log(1 - p) of each judged item.

        For the best item, 1 - p is the share of the rest, to avoid cancellation as p → 1; any other
        item has p ≤ 1/2.
        """
        lse_R = np.logaddexp(self._top_R, self._rest_R)
        log_p_J = self._score_J - lse_R[self._query_J]
        is_top_J = self._score_J == self._top_R[self._query_J]
        safe_J = np.where(is_top_J, -1.0, log_p_J)
        not_top_J = (self._rest_R - lse_R)[self._query_J]
        return log_p_J, np.where(is_top_J, not_top_J, np.log1p(-np.exp(safe_J)))


class _Lists:
    """The K best items so far; ties go to the lower row, which comes first."""

    def __init__(self, queries: int, k: int):
        self.item_RK = np.zeros((queries, k), np.int32)
        self._score_RK = np.full((queries, k), -np.inf)

    def add(
        self,
        scores_RC: np.ndarray,
        first: int,
        sorted_RC: np.ndarray,
        seen_query_S: np.ndarray = _NOTHING,
        seen_item_S: np.ndarray = _NOTHING,
    ) -> None:
        """Adds the scores of rows first, first + 1, …, without the (query, seen item) pairs."""
        (queries, k), width = self.item_RK.shape, scores_RC.shape[1]
        if not k:
            return
        # The K best unseen items of the chunk are among its K + seen best ones.
        take_R = np.minimum(width, k + np.bincount(seen_query_S, minlength=queries))
        least_R = sorted_RC[np.arange(queries), width - take_R]
        last_R = self._score_RK[:, -1]
        query_F, column_F = np.nonzero(
            (scores_RC >= least_R[:, None]) & (scores_RC > last_R[:, None])
        )
        seen_S = seen_query_S * width + seen_item_S - first
        unseen_F = ~np.isin(query_F * width + column_F, seen_S)
        query_F, column_F = query_F[unseen_F], column_F[unseen_F]
        score_F = scores_RC[query_F, column_F]

        held_query_L, place_L = np.nonzero(self.item_RK)
        query_F = np.concatenate([held_query_L, query_F])
        item_F = np.concatenate([self.item_RK[held_query_L, place_L], column_F + first])
        score_F = np.concatenate([self._score_RK[held_query_L, place_L], score_F])
        order_F = np.lexsort((item_F, -score_F, query_F))
        query_F = query_F[order_F]
        place_F = np.arange(len(query_F)) - np.searchsorted(query_F, query_F)
        within_F = place_F < k
        chosen_F, to = order_F[within_F], (query_F[within_F], place_F[within_F])
        self.item_RK[to], self._score_RK[to] = item_F[chosen_F], score_F[chosen_F]


def _places(
    sorted_X: np.ndarray, start_J: np.ndarray, stop_J: np.ndarray, score_J: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bisects for each judged score in its query's ascending scores, for all at once.

    Returns:
      The ends of the scores ≤ the judged one, and of those < it.
    """
    found = []
    for or_equal in (True, False):
        low_J, high_J = start_J, stop_J
        while (open_J := low_J < high_J).any():
            middle_J = (low_J + high_J) // 2
            middle_score_J = sorted_X[np.where(open_J, middle_J, 0)]
            upto_J = middle_score_J <= score_J if or_equal else middle_score_J < score_J
            low_J = np.where(open_J & upto_J, middle_J + 1, low_J)
            high_J = np.where(open_J & ~upto_J, middle_J, high_J)
        found.append(low_J)
    return found[0], found[1]
