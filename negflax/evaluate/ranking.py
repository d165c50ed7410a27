"""Exact full-catalogue ranks of the judged items: all that the metrics need from the scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from negflax.data import Sequences
from negflax.evaluate.protocol import EvaluationError, Requests, Scorer, history_items


@dataclasses.dataclass(frozen=True)
class Ranks:
    """Where a scorer puts each judged item.

    Attributes:
      greater_J: int64, listed items with a strictly higher score.
      ties_J: int64, listed items with an equal score, itself included: it stands at a place drawn
        evenly from greater_J + 1 .. greater_J + ties_J.
      log_p_J: float64, log p(item), softmax over the whole catalogue (rows 1..V-1, seen or not).
      log_not_p_J: float64, log(1 - p(item)), without cancellation as p → 1.
      eligible_J: bool, False: seen before, hence neither listed nor judged (masked mode only).
      list_RK: int32, the first K rows of each request; of equal scores the lower row comes first;
        0 where the list has ended. K is what `rank_scorers` was asked for.
    """

    greater_J: np.ndarray
    ties_J: np.ndarray
    log_p_J: np.ndarray
    log_not_p_J: np.ndarray
    eligible_J: np.ndarray
    list_RK: np.ndarray


def rank_requests(
    scorer: Scorer,
    requests: Requests,
    sequences: Sequences,
    masked: bool,
    users_per_block: int,
    name: str = "scorer",
) -> Ranks:
    """Ranks the judged items among all items of the catalogue.

    Args:
      scorer: gives the scores of a block of requests over the catalogue, float (R, V).
      requests: what is asked and judged.
      sequences: for the history that `masked` takes out of the lists.
      masked: True: items of the user's history are never listed, and not judged. False: all items.
      users_per_block: requests that are scored at a time.
      name: of the scorer, for errors.

    Raises:
      EvaluationError: scores of the wrong shape, or a score that is not finite.
    """
    found = rank_scorers({name: scorer}, requests, sequences, (masked,), users_per_block)
    return found[masked, name]


def rank_scorers(
    scorers: Mapping[str, Scorer],
    requests: Requests,
    sequences: Sequences,
    modes: tuple[bool, ...],
    users_per_block: int,
    list_length: int = 0,
) -> dict[tuple[bool, str], Ranks]:
    """`rank_requests` for several scorers and values of `masked`: (masked, name) → ranks.

    A block of requests goes through all scorers before the next one, so that scorers which build on
    another (`cached` in floors.py) find its scores.
    """
    parts: dict[tuple[bool, str], list[tuple]] = {
        (masked, name): [] for masked in modes for name in scorers
    }
    for start in range(0, len(requests), users_per_block):
        block = requests.block(start, start + users_per_block)
        row_J, column_J = block.request_J, block.judged_item_J - 1
        seen_row, seen_item = history_items(sequences, block)
        for name, scorer in scorers.items():
            scores_RV = _scores(scorer, block, sequences, name)
            score_J = scores_RV[row_J, column_J]
            logs = _log_probabilities(scores_RV, row_J, score_J)
            for masked in modes:
                listed_RV, eligible_J = scores_RV, np.ones(len(row_J), bool)
                if masked:
                    listed_RV = scores_RV.copy()
                    listed_RV[seen_row, seen_item - 1] = -np.inf
                    eligible_J = listed_RV[row_J, column_J] > -np.inf
                sorted_RV = np.sort(listed_RV, axis=1)
                upto_J = _count(sorted_RV, row_J, score_J, or_equal=True)
                below_J = _count(sorted_RV, row_J, score_J, or_equal=False)
                greater_J = sorted_RV.shape[1] - upto_J
                list_RK = _first(listed_RV, sorted_RV, list_length)
                parts[masked, name].append(
                    (greater_J, upto_J - below_J, *logs, eligible_J, list_RK)
                )
    return {
        key: Ranks(*(np.concatenate(column) for column in zip(*blocks, strict=True)))
        for key, blocks in parts.items()
    }


def _first(listed_RV: np.ndarray, sorted_RV: np.ndarray, k: int) -> np.ndarray:
    """`Ranks.list_RK`, rows from 1."""
    list_RK = np.zeros((len(listed_RV), k), np.int32)
    last_R1 = sorted_RV[:, [-min(k, sorted_RV.shape[1])]] if k else np.inf
    row_F, column_F = np.nonzero((listed_RV >= last_R1) & (listed_RV > -np.inf))
    order_F = np.lexsort((column_F, -listed_RV[row_F, column_F], row_F))
    row_F, column_F = row_F[order_F], column_F[order_F]
    place_F = np.arange(len(row_F)) - np.searchsorted(row_F, row_F)
    within_F = place_F < k
    list_RK[row_F[within_F], place_F[within_F]] = column_F[within_F] + 1
    return list_RK


def _scores(scorer: Scorer, block: Requests, sequences: Sequences, name: str) -> np.ndarray:
    """Checked scores without column 0, (R, V - 1)."""
    scores_RV = np.asarray(scorer(block.without_answers()))
    expected = (len(block), sequences.catalogue.num_rows)
    if scores_RV.shape != expected:
        raise EvaluationError(f"{name}: scores of shape {scores_RV.shape}, expected {expected}")
    if not np.issubdtype(scores_RV.dtype, np.floating):  # integers; bfloat16, which NumPy lacks
        scores_RV = scores_RV.astype(np.float32)
    scores_RV = scores_RV[:, 1:]
    finite_R = np.isfinite(scores_RV).all(axis=1)
    if not finite_R.all():
        row = int(np.argmin(finite_R))
        item = int(np.argmin(np.isfinite(scores_RV[row])))
        user = sequences.user_ids[block.user_R[row]]
        raise EvaluationError(
            f"{name}: score {scores_RV[row, item]} for user {user}, catalogue row {item + 1}; "
            "every row from 1 needs a finite score (seen items are taken out of the lists here)"
        )
    return scores_RV


def _count(
    sorted_RV: np.ndarray, row_J: np.ndarray, score_J: np.ndarray, or_equal: bool
) -> np.ndarray:
    """How many scores of its row lie below (or equal) each judged score: bisection of all at once.

    One sort a request, then log2(V) gathers of J numbers: the cost hardly depends on how many
    items a request judges.
    """
    low_J = np.zeros(len(row_J), np.int64)
    high_J = np.full(len(row_J), sorted_RV.shape[1], np.int64)
    while (open_J := low_J < high_J).any():
        middle_J = (low_J + high_J) // 2
        found_J = sorted_RV[row_J, np.minimum(middle_J, sorted_RV.shape[1] - 1)]
        up_J = open_J & ((found_J <= score_J) if or_equal else (found_J < score_J))
        low_J = np.where(up_J, middle_J + 1, low_J)
        high_J = np.where(open_J & ~up_J, middle_J, high_J)
    return low_J


def _log_probabilities(
    scores_RV: np.ndarray, row_J: np.ndarray, score_J: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(log p, log(1 - p)) of each judged item.

    The best item is kept apart from the rest, so that 1 - p of a near-certain item is the rest's
    share and not a difference of two equal numbers; any other item has p ≤ 1/2.
    """
    every = np.arange(len(scores_RV))
    rest_RV = scores_RV.copy()
    best_R = scores_RV.argmax(axis=1)
    top_R = scores_RV[every, best_R].astype(np.float64)
    rest_RV[every, best_R] = -np.inf
    second_R = rest_RV.max(axis=1, keepdims=True, initial=np.finfo(rest_RV.dtype).min)
    share_R = np.exp(rest_RV - second_R).sum(axis=1, dtype=np.float64)
    with np.errstate(divide="ignore"):  # a catalogue of one item: p = 1
        rest_R = second_R[:, 0] + np.log(share_R)
    lse_R = np.logaddexp(top_R, rest_R)

    log_p_J = score_J - lse_R[row_J]
    is_top_J = score_J == top_R[row_J]
    safe_J = np.where(is_top_J, -1.0, log_p_J)
    return log_p_J, np.where(is_top_J, (rest_R - lse_R)[row_J], np.log1p(-np.exp(safe_J)))
