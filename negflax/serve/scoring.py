"""States and lists of a trained run: what evaluation, serving and simulation compute alike.

Shapes: R queries, T history steps, V catalogue rows, D width, K list length, H excluded rows.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from negflax import tables
from negflax.data import Batch
from negflax.mesh import COPIED, SPLIT
from negflax.model import Recommender
from negflax.serve.topk import top_k_of_shard
from negflax.train.restore import Trained


class ModelError(ValueError):
    """A trained model cannot be used; the message says why and what to do."""


def check_finite(trained: Trained) -> None:
    """Every row of every table is finite.

    Raises:
      ModelError: one is not; the message names it.
    """
    for name, table in trained.state["tables"].items():
        rows = table["rows"][: trained.model.tables[name].num_rows]
        finite_V = jnp.isfinite(rows).all(axis=1)
        if not finite_V.all():
            raise ModelError(
                f"step {trained.step}: table {name!r} has {int((~finite_V).sum())} rows with NaN "
                f"or infinity, the first is row {int(jnp.argmin(finite_V))}: the run has diverged; "
                "choose an earlier checkpoint, or train with a lower "
                "config.optimizer.table_learning_rate"
            )


@functools.lru_cache(maxsize=8)  # one compiled program for all checkpoints of a run
def state_function(model: Recommender, mesh: Mesh) -> Any:
    """Jitted (dense, tables, batch of R histories) → user states (R rounded up to devices, D)."""

    def on_device(dense: Any, state_tables: Any, batch: Batch) -> jax.Array:
        states_RD = _last_states(model, dense, state_tables, batch)
        return jnp.pad(states_RD, ((0, -len(states_RD) % mesh.size), (0, 0)))

    return jax.jit(
        jax.shard_map(
            on_device,
            mesh=mesh,
            check_vma=False,
            in_specs=(COPIED, SPLIT, COPIED),
            out_specs=COPIED,
        )
    )


@functools.lru_cache(maxsize=8)
def list_function(model: Recommender, mesh: Mesh, k: int) -> Any:
    """Jitted (dense, tables, batch of R histories, excluded rows (R, H)) → lists, no scores (R, V).

    The lists are (catalogue rows (R, K), scores (R, K)), as `topk.top_k_function` gives them.
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
            on_device,
            mesh=mesh,
            check_vma=False,
            in_specs=(COPIED, SPLIT, COPIED, COPIED),
            out_specs=(COPIED, COPIED),
        )
    )


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
