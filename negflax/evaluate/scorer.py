"""A trained model as a scorer: requests → user states → scores over the catalogue.

Shapes: R requests, T history steps, V catalogue rows, D width, K list length, H excluded rows.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from negflax import tables
from negflax.data import Batch, Sequences, history_batch
from negflax.evaluate.protocol import LazyScores, Requests, Scorer
from negflax.evaluate.retrieval import top_k_of_shard
from negflax.mesh import COPIED, SPLIT
from negflax.model import Recommender


@functools.lru_cache(maxsize=8)  # one compiled program for all checkpoints of a run
def state_function(model: Recommender, mesh: Mesh) -> Any:
    """Jitted (dense, tables, batch of R histories) → user states (R rounded up to devices, D)."""

    def on_device(dense: Any, state_tables: Any, batch: Batch) -> jax.Array:
        states_RD = _last_states(model, dense, state_tables, batch)
        return jnp.pad(states_RD, ((0, -len(states_RD) % mesh.size), (0, 0)))

    return jax.jit(
        jax.shard_map(
            on_device, mesh=mesh, check_vma=False, in_specs=(COPIED, SPLIT, COPIED),
            out_specs=COPIED,
        )
    )  # fmt: skip


@functools.lru_cache(maxsize=32)
def column_function(model: Recommender, mesh: Mesh, width: int) -> Any:
    """Jitted (states (R, D), output table, first row) → scores (R, width) of the rows from there.

    The rows travel to all devices, and each scores its share of the users.
    """

    def on_device(states_RD: jax.Array, rows: jax.Array, first: jax.Array) -> jax.Array:
        rows_CD = tables.gather(rows, first + jnp.arange(width))
        weights_CD, bias_C = model.output_vectors(rows_CD)
        return states_RD @ weights_CD.T + bias_C

    return jax.jit(
        jax.shard_map(
            on_device, mesh=mesh, check_vma=False, in_specs=(SPLIT, SPLIT, COPIED), out_specs=SPLIT
        )
    )


@functools.lru_cache(maxsize=8)
def list_function(model: Recommender, mesh: Mesh, k: int) -> Any:
    """Jitted (dense, tables, batch of R histories, excluded rows (R, H)) → lists, no scores (R, V).

    The lists are (catalogue rows (R, K), scores (R, K)), as `retrieval.top_k_function` gives them.
    """

    def on_device(
        dense: Any, state_tables: Any, batch: Batch, excluded_RH: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        states_RD = _last_states(model, dense, state_tables, batch)
        rows = state_tables[model.output_table]["rows"]
        if model.config.item_bias:  # the rows' last column, times one
            states_RD = jnp.pad(states_RD, ((0, 0), (0, 1)), constant_values=1)
        return top_k_of_shard(states_RD, rows, excluded_RH, num_rows=model.num_rows, k=k)

    return jax.jit(
        jax.shard_map(
            on_device, mesh=mesh, check_vma=False, in_specs=(COPIED, SPLIT, COPIED, COPIED),
            out_specs=(COPIED, COPIED),
        )
    )  # fmt: skip


def scored_tables(model: Recommender, state: dict[str, Any]) -> dict[str, Any]:
    """The tables of a state as these functions read them: plain, composed rows, no slots."""
    rows = {
        name: tables.unpack(table["rows"], model.config.dtype)
        for name, table in state["tables"].items()
    }
    return {name: {"rows": x} for name, x in model.composed(rows).items()}


def _last_states(model: Recommender, dense: Any, state_tables: Any, batch: Batch) -> jax.Array:
    """User states (R, D) after the whole history, inside shard_map."""
    vectors = {}
    for name, uses in model.lookups(batch, None).items():
        for use, ids in uses.items():
            if use != "label":
                rows = tables.gather(state_tables[name]["rows"], ids.reshape(-1))
                vectors[use] = rows.reshape(*ids.shape, -1)
    states_RTD, _ = model.states(dense, vectors, batch)
    return states_RTD[:, -1]


def model_scorer(
    model: Recommender, state: dict[str, Any], sequences: Sequences, mesh: Mesh, history: int
) -> Scorer:
    """Scores requests by their newest `history` events.

    Args:
      model: of the state.
      state: needs `dense` and `tables`.
      sequences: the events that requests point into.
      mesh: where the state lives.
      history: T, steps the encoder reads.

    Returns:
      A scorer whose blocks are (R, V) float32, row 0 included, and lazy.
    """
    parts = scored_tables(model, state)
    rows = parts[model.output_table]["rows"]

    def scorer(requests: Requests) -> LazyScores:
        batch = history_batch(sequences, requests.end_R, requests.user_R, history)
        states_RD = state_function(model, mesh)(state["dense"], parts, batch)

        def columns(asked: slice) -> np.ndarray:
            score = column_function(model, mesh, asked.stop - asked.start)
            scores_RC = score(states_RD, rows, np.int32(asked.start))
            return np.asarray(scores_RC, np.float32)[: len(requests)]

        return LazyScores((len(requests), model.num_rows), columns)

    return scorer
