"""A trained model as a scorer: queries → user states → scores over the catalogue.

Shapes: R queries, T history steps, V catalogue rows, D width.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from negflax import preemption, tables
from negflax.calibration import Calibration, added, history_shifts
from negflax.data import Sequences, history_batch
from negflax.evaluate.protocol import LazyScores, Queries, Scorer
from negflax.mesh import COPIED, SPLIT, exact_products, to_host
from negflax.model import Recommender
from negflax.serve.scoring import state_function
from negflax.train.restore import Trained, scored_tables


@functools.lru_cache(maxsize=32)
def column_function(model: Recommender, mesh: Mesh, width: int) -> Any:
    """Returns a jitted function: (states (R, D), output table, first row) → scores (R, width).

    The rows from the first one are gathered on all devices, and each device scores its own users.
    """

    def on_device(states_RD: jax.Array, rows: jax.Array, first: jax.Array) -> jax.Array:
        rows_CD = tables.gather(rows, first + jnp.arange(width))
        weights_CD, bias_C = model.output_vectors(rows_CD)
        with exact_products():
            return states_RD @ weights_CD.T + bias_C

    return jax.jit(
        jax.shard_map(
            on_device, mesh=mesh, check_vma=False, in_specs=(SPLIT, SPLIT, COPIED), out_specs=SPLIT
        )
    )


def trained_scorer(trained: Trained, sequences: Sequences, *, calibrated: bool = True) -> Scorer:
    """Returns `model_scorer` of a checkpoint, with its calibration if it has one.

    Args:
      trained: the checkpoint.
      sequences: events that the queries refer to.
      calibrated: False leaves the calibration off.
    """
    calibration, history = trained.calibration if calibrated else None, trained.config.eval.history
    return model_scorer(trained.model, trained.state, sequences, trained.mesh, history, calibration)


def model_scorer(
    model: Recommender,
    state: dict[str, Any],
    sequences: Sequences,
    mesh: Mesh,
    history: int,
    calibration: Calibration | None = None,
) -> Scorer:
    """Returns a scorer of queries by their newest `history` events.

    Args:
      model: model of the state.
      state: training state; `dense` and `tables` are used.
      sequences: events that the queries refer to.
      mesh: device mesh of the state.
      history: number of events T that the encoder reads.
      calibration: corrects the scores, by all events before a query.

    Returns:
      A scorer that returns LazyScores, (R, V) float32 with row 0.
    """
    parts = scored_tables(model, state)
    rows = parts[model.output_table]["rows"]

    def scorer(queries: Queries) -> LazyScores:
        batch = history_batch(sequences, queries.end_R, queries.user_R, history)
        states_RD = state_function(model, mesh)(state["dense"], parts, batch)
        shifts = []
        if calibration is not None:
            shifts = history_shifts(calibration, sequences, queries.user_R, queries.end_R)

        def columns(asked: slice) -> np.ndarray:
            preemption.check()
            score = column_function(model, mesh, asked.stop - asked.start)
            scores_RC = score(states_RD, rows, np.int32(asked.start))
            return np.asarray(to_host(scores_RC), np.float32)[: len(queries)] + added(shifts, asked)

        return LazyScores((len(queries), model.num_rows), columns)

    return scorer
