"""What the fit of the calibration has to know of each labelled state.

The correction is constant within a kind (cluster or creator) and 0 for kinds that the user has not
met. So the log-sum-exp over the candidates follows exactly from those of each kind of the history
and that of the rest, whatever the scalars: lse = log(Σ_m exp(lse_m + b_m) + exp(rest)). Nothing is
scored again while they are fitted.

Shapes: N labelled states, L labels a state, M kinds of a history, F statistics, S candidates, K
kinds, D width; X pairs of a state and a row that it leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from negflax.calibration.kind_counts import STATISTICS, counts_of
from negflax.calibration.labelled_states import ItemVectors, LabelledStates, Model
from negflax.data import Sequences
from negflax.data.histories import history_items

ELEMENTS = 8_000_000  # logits alive at a time
NARROW, WIDER = 64, 4  # kinds of the narrowest histories that lie together; factor to the next ones
MOST = np.iinfo(np.int16).max


class LabelFacts(NamedTuple):
    """N labelled states.

    Attributes:
      user_N: user of each.
      ids_NL: rows of the labels, −1 where absent.
      logits_NL: their scores, with what other kinds add already.
      r_NL: weights of positive labels.
      w_NL: weights of negative labels, without the run's factor.
      place_NL: which of the M kinds is the label's, −1 for one without history.
      lse_NM: log-sum-exp over the candidates of each kind, labels left out; −inf where none.
      rest_N: the same over all other candidates.
      stats_NMF: int16, see STATISTICS; 0 behind the last kind.
      age_N: events of the user so far.
    """

    user_N: np.ndarray
    ids_NL: np.ndarray
    logits_NL: np.ndarray
    r_NL: np.ndarray
    w_NL: np.ndarray
    place_NL: np.ndarray
    lse_NM: np.ndarray
    rest_N: np.ndarray
    stats_NMF: np.ndarray
    age_N: np.ndarray


# (user of each state, end of its history) → (n, K) corrections by number of the kind
Correction = Callable[[np.ndarray, np.ndarray], np.ndarray]


def label_facts(
    model: Model,
    sequences: Sequences,
    states: LabelledStates,
    kind_V: np.ndarray,
    candidates: ItemVectors,
    earlier: tuple[tuple[np.ndarray, Correction], ...] = (),
) -> list[LabelFacts]:
    """Scores the candidates of every state once, a block of states at a time.

    States lie together whose histories have about as many kinds: up to 64, 256, 1,024 and so on.
    So a few users with long histories do not make the arrays of all others as wide.

    Args:
      model: whose vectors the candidates and labels have.
      sequences: events that the states refer to.
      states: the labelled states.
      kind_V: kind of every catalogue row, 0 unknown.
      candidates: in the order of these kinds.
      earlier: of kinds that were fitted before: their `kind_V` and correction.
    """
    size = max(1, ELEMENTS // len(candidates.row_S))
    by_width: dict[int, list[LabelFacts]] = {}
    for start in range(0, len(states.event_N), size):
        part = states.part(start, start + size)
        user_N = np.searchsorted(sequences.offsets_U1, part.event_N, side="right") - 1
        z_NS, z_NL = _scores(model, part, candidates)
        row_NL = np.maximum(part.ids_NL, 0)
        for other_V, correction in earlier:
            b_NK = correction(user_N, part.event_N)
            z_NS += b_NK[:, other_V[candidates.row_S]]
            z_NL += np.take_along_axis(b_NK, other_V[row_NL], axis=1)
        state_M, label_M = np.nonzero(part.ids_NL >= 0)
        _leave_out(z_NS, candidates.row_S, state_M, part.ids_NL[state_M, label_M])
        if model.trained.config.loss.exclude_seen:
            seen = history_items(sequences, user_N, part.event_N)
            _leave_out(z_NS, candidates.row_S, *seen)
        block = _by_kind(sequences, user_N, part, (z_NS, z_NL), (kind_V, candidates.kind_S))
        for width, narrower in _split_by_width(block):
            by_width.setdefault(width, []).append(narrower)
    return [_joined(by_width[width]) for width in sorted(by_width)]


def _leave_out(z_NS: np.ndarray, row_S: np.ndarray, state_X: np.ndarray, row_X: np.ndarray) -> None:
    """−inf where a state leaves out a row, at each place that the row has among the candidates."""
    order_S = np.argsort(row_S, kind="stable")
    first_X, end_X = (
        np.searchsorted(row_S[order_S], row_X, side=side) for side in ("left", "right")
    )
    times_X = end_X - first_X  # more than one where candidates are drawn with replacement
    nth = np.arange(times_X.sum()) - np.repeat(np.cumsum(times_X) - times_X, times_X)
    z_NS[np.repeat(state_X, times_X), order_S[np.repeat(first_X, times_X) + nth]] = -np.inf


def _scores(
    model: Model, part: LabelledStates, candidates: ItemVectors
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the candidates (n, S) and of the labels (n, L)."""
    z_NS = part.states_ND @ candidates.vectors_SD.T + candidates.bias_S
    vectors_NLD, bias_NL = model.vectors(np.maximum(part.ids_NL, 0))
    return z_NS, np.einsum("nd,nld->nl", part.states_ND, vectors_NLD) + bias_NL


def _by_kind(
    sequences: Sequences,
    user_N: np.ndarray,
    part: LabelledStates,
    scores: tuple[np.ndarray, np.ndarray],
    kinds: tuple[np.ndarray, np.ndarray],
) -> LabelFacts:
    (z_NS, z_NL), (kind_V, kind_S), n = scores, kinds, len(user_N)
    top_N1 = z_NS.max(axis=1, keepdims=True)
    top_N1 = np.where(np.isfinite(top_N1), top_N1, 0)
    kind_K, start_K = np.unique(kind_S, return_index=True)
    sum_NK = np.add.reduceat(np.exp(z_NS - top_N1), start_K, axis=1)

    counts = counts_of(sequences, user_N, part.event_N, kind_V)
    first_N1 = np.searchsorted(counts.user_P, np.arange(n + 1))
    at_P = counts.user_P, np.arange(len(counts.user_P)) - first_N1[counts.user_P]
    shape = n, int(np.diff(first_N1).max(initial=1))
    column_P = np.minimum(np.searchsorted(kind_K, counts.kind_P), len(kind_K) - 1)
    there_P = kind_K[column_P] == counts.kind_P  # a sample of candidates may have none of a kind
    sum_NM, kind_NM = np.zeros(shape, np.float32), np.zeros(shape, np.int32)
    sum_NM[at_P] = np.where(there_P, sum_NK[counts.user_P, column_P], 0)
    sum_NK[counts.user_P[there_P], column_P[there_P]] = 0
    kind_NM[at_P] = counts.kind_P
    stats_NMF = np.zeros((*shape, len(STATISTICS)), np.int16)
    stats_NMF[at_P] = np.minimum(counts.stats_PF, MOST)

    own_NL = np.where(part.ids_NL >= 0, kind_V[np.maximum(part.ids_NL, 0)], 0)
    same_NLM = (own_NL[:, :, None] == kind_NM[:, None]) & (own_NL > 0)[:, :, None]
    with np.errstate(divide="ignore"):
        lse_NM, rest_N = np.log(sum_NM) + top_N1, np.log(sum_NK.sum(axis=1)) + top_N1[:, 0]
    return LabelFacts(
        user_N=user_N,
        ids_NL=part.ids_NL,
        logits_NL=z_NL.astype(np.float32),
        r_NL=part.r_NL,
        w_NL=part.w_NL,
        place_NL=np.where(same_NLM.any(axis=2), same_NLM.argmax(axis=2), -1).astype(np.int32),
        lse_NM=lse_NM.astype(np.float32),
        rest_N=rest_N.astype(np.float32),
        stats_NMF=stats_NMF,
        age_N=np.minimum(counts.events_R, MOST),
    )


def _split_by_width(block: LabelFacts) -> Iterator[tuple[int, LabelFacts]]:
    """(most kinds, the states with at most as many kinds and more than the class below)."""
    kinds_N = (block.stats_NMF[:, :, 0] > 0).sum(axis=1)
    width, before = NARROW, -1
    while before < kinds_N.max(initial=0):
        if (rows_N := (kinds_N > before) & (kinds_N <= width)).any():
            part = LabelFacts(*(x[rows_N] for x in block))
            yield (
                width,
                part._replace(lse_NM=part.lse_NM[:, :width], stats_NMF=part.stats_NMF[:, :width]),
            )
        before, width = width, WIDER * width


def _joined(blocks: list[LabelFacts]) -> LabelFacts:
    """All blocks, filled up to the longest history."""
    longest = max(block.lse_NM.shape[1] for block in blocks)

    def filled(block: LabelFacts) -> LabelFacts:
        more = (0, 0), (0, longest - block.lse_NM.shape[1])
        return block._replace(
            lse_NM=np.pad(block.lse_NM, more, constant_values=-np.inf),
            stats_NMF=np.pad(block.stats_NMF, (*more, (0, 0))),
        )

    return LabelFacts(*(np.concatenate(x) for x in zip(*map(filled, blocks), strict=True)))
