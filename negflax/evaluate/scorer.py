"""A trained model as a scorer: requests → user states → scores over the catalogue.

Shapes: R requests, T history steps, V catalogue rows.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from negflax import tables
from negflax.data import Batch, Sequences, history_batch
from negflax.evaluate.protocol import Requests, Scorer
from negflax.mesh import COPIED, SPLIT
from negflax.model import Recommender


@functools.lru_cache(maxsize=8)  # one compiled program for all checkpoints of a run
def score_function(model: Recommender, mesh: Mesh) -> Any:
    """Jitted (dense, tables, batch of R histories) → scores (R, V padded), sharded over V."""

    def on_device(dense: Any, state_tables: Any, batch: Batch) -> jax.Array:
        vectors = {}
        for name, uses in model.lookups(batch, None).items():
            for use, ids in uses.items():
                if use != "label":
                    rows = tables.gather(state_tables[name]["rows"], ids.reshape(-1))
                    vectors[use] = rows.reshape(*ids.shape, -1)
        states_RTD, _ = model.states(dense, vectors, batch)
        weights_VD, bias_V = model.output_vectors(state_tables[model.output_table]["rows"])
        return states_RTD[:, -1] @ weights_VD.T + bias_V

    return jax.jit(
        jax.shard_map(
            on_device, mesh=mesh, check_vma=False, in_specs=(COPIED, SPLIT, COPIED),
            out_specs=jax.sharding.PartitionSpec(None, *SPLIT),
        )
    )  # fmt: skip


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
      A scorer whose blocks are (R, V) float32, row 0 included.
    """
    score = score_function(model, mesh)
    parts = {
        name: {"rows": tables.unpack(table["rows"], model.config.dtype)}
        for name, table in state["tables"].items()
    }

    def scorer(requests: Requests) -> np.ndarray:
        batch = history_batch(sequences, requests.end_R, requests.user_R, history)
        scores = score(state["dense"], parts, batch)
        return np.asarray(scores, np.float32)[:, : model.num_rows]

    return scorer
