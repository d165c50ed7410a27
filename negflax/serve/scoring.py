"""States and lists of a trained run: what evaluation, serving and simulation compute alike.

Shapes: R queries, T history steps, V catalogue rows, v of a shard, C of a chunk, D width, K list
length, H excluded rows, M items of a list, N other items.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from negflax import tables
from negflax.data import Batch
from negflax.mesh import AXES, COPIED, SPLIT, exact_products
from negflax.model import Recommender
from negflax.serve.topk import CHUNK, Shifts, shift_specs, shifted, top_k_function
from negflax.train.finite import non_finite
from negflax.train.restore import Trained


class ModelError(ValueError):
    """A trained model cannot be used; the message says why and what to do."""


def check_finite(trained: Trained) -> None:
    """Every row of every table is finite, and so is every dense parameter.

    Raises:
      ModelError: one is not; the message names it.
    """
    if bad := non_finite(trained.state["dense"]):
        raise ModelError(
            f"step {trained.step}: {', '.join(bad)} hold NaN or infinity: the run has diverged; "
            "choose an earlier checkpoint, or train with a lower config.optimizer.learning_rate"
        )
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
        states_RD, _ = _last_states(model, dense, state_tables, batch, None)
        states_RD = _at_request(model, dense, states_RD, batch)
        return jnp.pad(states_RD, ((0, -len(states_RD) % mesh.size), (0, 0)))

    return _on_devices(on_device, mesh, (COPIED, SPLIT, COPIED))


@functools.lru_cache(maxsize=8)
def step_function(model: Recommender, mesh: Mesh) -> Any:
    """Jitted (dense, tables, batch of R rows, start) → (user states (R, D), last).

    The states do not know the time of the request yet (`request_function`). `start` is the `last`
    of the events before, None where there are none: a session reads one event at a time, and a long
    history piece by piece (negflax/model/encoders/__init__.py).
    """
    on_device = functools.partial(_last_states, model)
    return _on_devices(on_device, mesh, (COPIED, SPLIT, COPIED, COPIED))


@functools.lru_cache(maxsize=8)
def request_function(model: Recommender) -> Any:
    """Jitted (dense, states (R, D) of `step_function`, request codes (R, 3)) → user states (R, D).

    For models that read the time of requests (negflax/model/request_time.py).
    """
    return jax.jit(model.at_request)


def list_function(model: Recommender, mesh: Mesh, k: int, kinds: int = 0) -> Any:
    """(dense, tables, batch of R histories, excluded rows (R, H)) → lists, without scores (R, V).

    The lists are (catalogue rows (R, K), scores (R, K)), as `topk.top_k_function` gives them.
    Encoder and search are compiled apart, so that their shapes add up and do not multiply.
    """
    states = step_function(model, mesh)
    search = top_k_function(mesh, model.num_rows, k, bias=model.config.item_bias, kinds=kinds)

    def lists(dense: Any, state_tables: Any, batch: Batch, excluded_RH: Any, *shifts: Any) -> Any:
        states_RD, _ = states(dense, state_tables, batch, None)
        states_RD = _at_request(model, dense, states_RD, batch)
        return search(states_RD, state_tables[model.output_table]["rows"], excluded_RH, *shifts)

    return lists


@functools.lru_cache(maxsize=8)
def normaliser_function(model: Recommender, mesh: Mesh, kinds: int = 0) -> Any:
    """Jitted (states (R, D), output rows) → (R,) the log-sum-exp of the scores of all items.

    p of an item is exp(score − this), the p of docs/method.md §2 over the whole catalogue.
    """

    def on_device(states_RD: jax.Array, rows_vD: jax.Array, shifts: Shifts = ()) -> jax.Array:
        first, size = lax.axis_index(AXES) * len(rows_vD), min(CHUNK, len(rows_vD))

        def add(total_R: jax.Array, chunk: jax.Array) -> tuple[jax.Array, None]:
            start = jnp.minimum(chunk * size, len(rows_vD) - size)
            rows_CD = lax.dynamic_slice_in_dim(rows_vD, start, size)
            weights_CD, bias_C = model.output_vectors(rows_CD)
            place_C = start + jnp.arange(size)
            row_C = first + place_C  # the last chunk is read from further up, to be whole
            counts_C = (row_C > 0) & (row_C < model.num_rows) & (place_C >= chunk * size)
            scores_RC = states_RD @ weights_CD.T + bias_C
            if shifts:
                scores_RC += shifted(shifts, lambda kind_v: kind_v[place_C]).T
            scores_RC = jnp.where(counts_C, scores_RC, -jnp.inf)
            return jnp.logaddexp(total_R, jax.nn.logsumexp(scores_RC, axis=1)), None

        none_R = jnp.full(len(states_RD), -jnp.inf, states_RD.dtype)
        total_R, _ = lax.scan(add, none_R, jnp.arange(-(-len(rows_vD) // size)))
        return jax.nn.logsumexp(lax.all_gather(total_R, AXES), axis=0)

    return _on_devices(on_device, mesh, (COPIED, SPLIT, *shift_specs(kinds)))


@functools.lru_cache(maxsize=8)
def similarity_function(model: Recommender, mesh: Mesh) -> Any:
    """Jitted (output rows, items (R, M), others (R, N), 0 none) → (R, M) largest cosine to those.

    Of the items' vectors, without bias; −1 where a user has no others.
    """

    def on_device(rows: jax.Array, item_RM: jax.Array, other_RN: jax.Array) -> jax.Array:
        def unit(ids: jax.Array) -> jax.Array:
            vectors, _ = model.output_vectors(tables.gather(rows, ids.reshape(-1)))
            length = jnp.linalg.norm(vectors, axis=-1, keepdims=True)
            return (vectors / jnp.maximum(length, 1e-12)).reshape(*ids.shape, -1)

        cosine_RMN = jnp.einsum("rmd,rnd->rmn", unit(item_RM), unit(other_RN))
        return jnp.where(other_RN[:, None] > 0, cosine_RMN, -1).max(axis=2, initial=-1)

    return _on_devices(on_device, mesh, (SPLIT, COPIED, COPIED))


def _last_states(
    model: Recommender, dense: Any, state_tables: Any, batch: Batch, start: Any
) -> tuple[jax.Array, Any]:
    """(user states (R, D) after the last event, what the encoder carries), inside shard_map."""
    vectors = {}
    for name, uses in model.lookups(batch, None).items():
        for use, ids in uses.items():
            if use != "label":
                rows = tables.gather(state_tables[name]["rows"], ids.reshape(-1))
                vectors[use] = rows.reshape(*ids.shape, -1)
    states_RTD, last = model.states_of_events(dense, vectors, batch, start=start)
    return states_RTD[:, -1], last


def _at_request(model: Recommender, dense: Any, states_RD: jax.Array, batch: Batch) -> jax.Array:
    codes_BTR = batch.request_BTR
    return model.at_request(dense, states_RD, None if codes_BTR is None else codes_BTR[:, -1])


def _on_devices(function: Any, mesh: Mesh, in_specs: Any) -> Any:
    """The function, jitted and mapped over the devices; every device gives the whole result."""

    def exact(*arguments: Any) -> Any:
        with exact_products():
            return function(*arguments)

    return jax.jit(
        jax.shard_map(exact, mesh=mesh, check_vma=False, in_specs=in_specs, out_specs=COPIED)
    )
