"""Sparse row optimizers: only the rows a step touched are read, changed and written.

Each is exact on merged duplicate rows, as `table.distinct` makes them. With donated buffers the
scatter happens in place. Shapes: V rows of a shard, U distinct rows, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

EPSILON = 1e-10  # beside Adagrad's accumulator, so that a row of zero gradients stays put


class RowOptimizer(NamedTuple):
    """A sparse optimizer for the rows of a table.

    Attributes:
      init: rows_VD → slots, arrays whose leading axis is V (sharded as the rows).
      update: (slots_U, gradient_UD, rate) → (new slots_U, change of rows_UD), for the touched rows
        alone.
    """

    init: Callable[[jax.Array], dict[str, jax.Array]]
    update: Callable[..., tuple[dict[str, jax.Array], jax.Array]]


def sgd() -> RowOptimizer:
    """Plain gradient descent, no slots."""
    return RowOptimizer(lambda rows: {}, lambda slots, g, rate: ({}, -rate * g))


def adagrad(start: float) -> RowOptimizer:
    """Adagrad (Duchi et al. 2011): one accumulator an element, beginning at `start`."""

    def update(slots, g, rate):
        total = slots["sum_of_squares"] + g * g
        return {"sum_of_squares": total}, -rate * g * jax.lax.rsqrt(total + EPSILON)

    return RowOptimizer(lambda rows: {"sum_of_squares": jnp.full_like(rows, start)}, update)


def rowwise_adagrad(start: float) -> RowOptimizer:
    """Adagrad with one accumulator a row, the mean of the squares: V floats instead of V·D."""

    def update(slots, g, rate):
        total = slots["sum_of_squares"] + jnp.mean(g * g, axis=1)
        return {"sum_of_squares": total}, -rate * g * jax.lax.rsqrt(total + EPSILON)[:, None]

    def init(rows):
        return {"sum_of_squares": jnp.full(len(rows), start, rows.dtype)}

    return RowOptimizer(init, update)


def get(name: str, start: float) -> RowOptimizer:
    """The row optimizer of config.optimizer.tables.

    Raises:
      ValueError: the name is unknown.
    """
    known = {"sgd": sgd, "adagrad": lambda: adagrad(start)}
    known["rowwise_adagrad"] = lambda: rowwise_adagrad(start)
    if name not in known:
        raise ValueError(f"row optimizer {name!r} is unknown; choose from {', '.join(known)}")
    return known[name]()


def apply(
    optimizer: RowOptimizer,
    rows_VD: jax.Array,
    slots: dict[str, jax.Array],
    index_U: jax.Array,
    gradient_UD: jax.Array,
    rate: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """One update of the touched rows of a shard.

    Args:
      optimizer: which one.
      rows_VD: this device's rows.
      slots: this device's slots.
      index_U: local rows, distinct; those ≥ V (padding, other devices' rows) are dropped.
      gradient_UD: their gradients.
      rate: learning rate, a scalar.

    Returns:
      New rows and slots, in place where the arguments are donated.
    """
    touched = {
        name: slot.at[index_U].get(mode="fill", fill_value=1) for name, slot in slots.items()
    }
    new, change_UD = optimizer.update(touched, gradient_UD, rate)
    rows_VD = rows_VD.at[index_U].add(change_UD.astype(rows_VD.dtype), mode="drop")
    # What is written depends on what was read, so XLA keeps that order and needs no copy of the
    # slots; adding the difference instead would cost one.
    return rows_VD, {k: slots[k].at[index_U].set(v, mode="drop") for k, v in new.items()}
