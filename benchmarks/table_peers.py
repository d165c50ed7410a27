"""What benchmarks/tables.py compares: each method updates a table in place from ids and gradients.

Shapes: V rows, K ids of a step, D width.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from negflax import tables
from negflax.config import OptimizerConfig
from negflax.tables import optimizers, updates

OURS = f"ours, {OptimizerConfig().tables} (default)"
DENSE_ADAM, TORCH = "optax.adam, dense", "torch sparse"
RATE = 0.1


class Problem(NamedTuple):
    """V, the ids of a step and a gradient for each of them."""

    num_rows: int
    ids_K: np.ndarray
    gradient_KD: np.ndarray


@dataclasses.dataclass(frozen=True)
class Calls:
    """Blocking calls: the whole update, its parts alone; temporary memory in MB if known."""

    update: Callable[[], Any]
    parts: dict[str, Callable[[], Any]]
    temp_mb: float | None


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to update a table.

    Attributes:
      build: problem → calls; the table and the optimizer's state live as long as they do.
      arrays: (V, D) float32 arrays it keeps or makes, to tell whether it fits.
    """

    build: Callable[[Problem], Calls]
    arrays: int


def _merge(ids_K: jax.Array, gradient_KD: jax.Array, num_rows: int) -> tuple[jax.Array, jax.Array]:
    ids_U, index_K = tables.distinct(ids_K, num_rows)
    return ids_U, _add_up(index_K, gradient_KD, len(ids_U))


def _add_up(index_K: jax.Array, gradient_KD: jax.Array, size: int) -> jax.Array:
    return jnp.zeros((size, gradient_KD.shape[1])).at[index_K].add(gradient_KD)


def _ours(config: OptimizerConfig, p: Problem) -> Calls:
    optimizer, num_rows = optimizers.get(config, p.num_rows), p.num_rows
    ids_K, gradient_KD = jnp.asarray(p.ids_K), jnp.asarray(p.gradient_KD)
    rows = jnp.zeros((num_rows, gradient_KD.shape[1]))
    slots = jax.jit(optimizer.init)(rows)
    if config.table_dtype == "bfloat16":
        rows = tables.pack(rows.astype(jnp.bfloat16))
    state = [rows, slots]
    del rows, slots

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def move(rows, slots, ids_U, gradient_UD):
        table = {"rows": rows, "slots": slots}
        table = updates.apply(optimizer, table, ids_U, gradient_UD, updates.RowStep(RATE))
        return table["rows"], table["slots"]

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(rows, slots, ids_K, gradient_KD):
        return move(rows, slots, *_merge(ids_K, gradient_KD, num_rows))

    distinct = jax.jit(functools.partial(tables.distinct, num_rows=num_rows))
    add_up = jax.jit(_add_up, static_argnums=2)
    ids_U, index_K = distinct(ids_K)
    merged_UD = add_up(index_K, gradient_KD, len(ids_U))
    compiled = update.lower(*state, ids_K, gradient_KD).compile()

    def change(function, *arguments):
        state[:] = jax.block_until_ready(function(*state, *arguments))

    parts = {
        "dedup": lambda: jax.block_until_ready(distinct(ids_K)),
        "merge": lambda: jax.block_until_ready(add_up(index_K, gradient_KD, len(ids_U))),
        "rows": lambda: change(move, ids_U, merged_UD),
    }
    return Calls(
        lambda: change(compiled, ids_K, gradient_KD),
        parts,
        compiled.memory_analysis().temp_size_in_bytes / 1e6,
    )


def _optax(optimizer: optax.GradientTransformation, p: Problem) -> Calls:
    """The dense way: a gradient of the table's size, and every row and moment read and written."""
    arguments = jnp.asarray(p.ids_K), jnp.asarray(p.gradient_KD)
    rows = jnp.zeros((p.num_rows, p.gradient_KD.shape[1]))
    state = [rows, jax.jit(optimizer.init)(rows)]
    del rows

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(rows, state, ids_K, gradient_KD):
        change, state = optimizer.update(jnp.zeros_like(rows).at[ids_K].add(gradient_KD), state)
        return optax.apply_updates(rows, change), state

    compiled = update.lower(*state, *arguments).compile()

    def call():
        state[:] = jax.block_until_ready(compiled(*state, *arguments))

    return Calls(call, {}, compiled.memory_analysis().temp_size_in_bytes / 1e6)


def _torch(name: str, p: Problem) -> Calls:
    """Coalescing and the update; the sparse gradient is at hand, no forward or backward timed."""
    import torch

    table = torch.nn.Embedding(
        p.num_rows,
        p.gradient_KD.shape[1],
        sparse=True,
        _weight=torch.zeros(p.num_rows, p.gradient_KD.shape[1]),
    )
    optimizer = getattr(torch.optim, name)(table.parameters(), lr=RATE)
    ids, values = torch.tensor(p.ids_K, dtype=torch.long)[None], torch.tensor(p.gradient_KD)

    def call():
        table.weight.grad = torch.sparse_coo_tensor(
            ids, values, table.weight.shape, check_invariants=False
        )
        optimizer.step()

    return Calls(call, {}, None)


def _ours_with(**fields: Any) -> Callable[[Problem], Calls]:
    return functools.partial(_ours, OptimizerConfig(**fields))


METHODS = {
    OURS: Method(_ours_with(), arrays=1),
    "ours, bfloat16 rows": Method(_ours_with(table_dtype="bfloat16"), arrays=2),
    "ours, adagrad": Method(_ours_with(tables="adagrad"), arrays=2),
    "ours, lazy_adam": Method(_ours_with(tables="lazy_adam"), arrays=3),
    DENSE_ADAM: Method(functools.partial(_optax, optax.adam(RATE)), arrays=5),
    "optax.adagrad, dense": Method(functools.partial(_optax, optax.adagrad(RATE)), arrays=4),
    f"{TORCH}, SparseAdam": Method(functools.partial(_torch, "SparseAdam"), arrays=3),
    f"{TORCH}, Adagrad": Method(functools.partial(_torch, "Adagrad"), arrays=2),
}
