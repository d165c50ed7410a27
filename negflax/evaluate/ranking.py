"""Exact full-catalogue ranks of the judged items, from which the metrics are computed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np

from negflax.data import Sequences
from negflax.data.histories import distinct_history_items
from negflax.evaluate.protocol import (
    EvaluationError,
    LazyScores,
    Queries,
    Scorer,
    chunks,
)
from negflax.evaluate.rank_accumulator import RankAccumulator, Ranks

__all__ = ["Ranks", "rank_queries", "rank_scorers"]


def rank_queries(
    scorer: Scorer,
    queries: Queries,
    sequences: Sequences,
    masked: bool,
    users_per_block: int,
    name: str = "scorer",
) -> Ranks:
    """Ranks the judged items among all items of the catalogue.

    Args:
      scorer: scorer of a block of queries over the catalogue, float (R, V).
      queries: queries with judged items.
      sequences: events of all users, for the histories to mask.
      masked: True: items of the user's history are neither listed nor judged. False: all are.
      users_per_block: number of queries that are scored at a time.
      name: name of the scorer in errors.

    Raises:
      EvaluationError: scores have the wrong shape, or are not finite.
    """
    found = rank_scorers({name: scorer}, queries, sequences, (masked,), users_per_block)
    return found[masked, name]


def rank_scorers(
    scorers: Mapping[str, Scorer],
    queries: Queries,
    sequences: Sequences,
    modes: tuple[bool, ...],
    users_per_block: int,
    list_length: int = 0,
) -> dict[tuple[bool, str], Ranks]:
    """Does `rank_queries` for several scorers and values of `masked`: (masked, name) → ranks.

    The catalogue is scored in chunks, twice: first to store the scores of judged and seen items,
    then to rank them among all others (rank_accumulator.py). All scorers score a chunk before the
    next one, so that scorers built on another scorer find its scores in the cache (`cached` in
    popularity.py). Besides the scores of a chunk, memory is O(R · K + judged + seen) per scorer.
    """
    parts: dict[tuple[bool, str], list[Ranks]] = {
        (masked, name): [] for masked in modes for name in scorers
    }
    pieces = chunks(sequences.catalogue.num_rows, min(users_per_block, len(queries)))
    # Both passes are done at once if one chunk is the whole catalogue.
    passes = (
        ((RankAccumulator.find, RankAccumulator.rank),)
        if len(pieces) == 1
        else ((RankAccumulator.find,), (RankAccumulator.rank,))
    )
    for start in range(0, len(queries), users_per_block):
        block = queries.block(start, start + users_per_block)
        seen = distinct_history_items(sequences, block.user_R, block.end_R)
        scores = {name: _scores(scorer, block, sequences, name) for name, scorer in scorers.items()}
        accumulators = {name: RankAccumulator(block, *seen, modes, list_length) for name in scorers}
        for steps, rows in itertools.product(passes, pieces):
            for name, accumulator in accumulators.items():
                chunk_RC = _chunk(scores[name], rows, block, sequences, name)
                for step in steps:
                    step(accumulator, chunk_RC, rows.start)
        for masked, name in parts:
            parts[masked, name].append(accumulators[name].ranks(masked))
    return {key: _joined(blocks) for key, blocks in parts.items()}


def _joined(blocks: list[Ranks]) -> Ranks:
    fields = (field.name for field in dataclasses.fields(Ranks))
    return Ranks(**{name: np.concatenate([getattr(x, name) for x in blocks]) for name in fields})


def _scores(
    scorer: Scorer, block: Queries, sequences: Sequences, name: str
) -> np.ndarray | LazyScores:
    scores_RV = scorer(block.without_answers())
    expected = (len(block), sequences.catalogue.num_rows)
    if scores_RV.shape != expected:
        raise EvaluationError(f"{name}: scores of shape {scores_RV.shape}, expected {expected}")
    return scores_RV


def _chunk(
    scores_RV: np.ndarray | LazyScores,
    rows: slice,
    block: Queries,
    sequences: Sequences,
    name: str,
) -> np.ndarray:
    """Returns the scores of some rows, after a check that they are finite."""
    scores_RC = np.asarray(scores_RV[:, rows])
    if not np.issubdtype(scores_RC.dtype, np.floating):  # integers; bfloat16, which NumPy lacks
        scores_RC = scores_RC.astype(np.float32)
    finite_R = np.isfinite(scores_RC).all(axis=1)
    if not finite_R.all():
        query = int(np.argmin(finite_R))
        column = int(np.argmin(np.isfinite(scores_RC[query])))
        user = sequences.user_ids[block.user_R[query]]
        raise EvaluationError(
            f"{name or 'model'}: score {scores_RC[query, column]} for user {user}, catalogue row "
            f"{rows.start + column}: give every row from 1 a finite score; do not mask seen items, "
            "as the evaluation masks them"
        )
    return scores_RC
