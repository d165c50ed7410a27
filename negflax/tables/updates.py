"""The sparse update: only the rows that a step touched are read, changed and written.

With donated buffers the scatter happens in place. On a CPU rows are updated in blocks, so that what
is in between stays in the cache: without, lazy Adam of 32,768 rows takes three times as long, as
buffers beyond 32 MB are handed back to the system and faulted in again at every step.

Shapes: V rows of a shard, U distinct rows, D width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from negflax.mesh import platform
from negflax.tables import lines
from negflax.tables.optimizers import RowOptimizer
from negflax.tables.rounding import pack, stochastic_round, unpack

BLOCK_ROWS = 4096  # that a CPU updates at a time; accelerators take all at once


Table = dict[str, Any]  # this device's part: "rows" (V, D), packed if bfloat16, and "slots"


class RowStep(NamedTuple):
    """What an update of rows depends on besides rows and gradients.

    Attributes:
      rate: learning rate, a scalar.
      decay: decoupled weight decay (Loshchilov and Hutter 2019), of the touched rows alone.
      step: steps before this one, for the optimizers that count them.
      first_row: place of this shard in the whole table: how a bfloat16 row is rounded depends on
        its place there.
      seed: of the rounding: uint32 scalar, new each step and each table.
      skip: bool scalar: nothing changes. Rows are dropped by their index, as a choice between old
        and new tables would read and write all of both.
    """

    rate: jax.Array | float
    decay: float = 0.0
    step: jax.Array | int = 0
    first_row: jax.Array | int = 0
    seed: jax.Array | int = 0
    skip: jax.Array | bool = False


def apply(
    optimizer: RowOptimizer,
    table: Table,
    index_U: jax.Array,
    gradient_UD: jax.Array,
    step: RowStep,
) -> Table:
    """One update of the touched rows of a shard: row ← row − rate · (direction + decay · row).

    Args:
      optimizer: which one.
      table: this device's rows and slots.
      index_U: local rows, distinct, ascending; those ≥ V (padding, other devices' rows), which may
        stand anywhere, are dropped.
      gradient_UD: their gradients, duplicates merged.
      step: learning rate and what else the update depends on.

    Returns:
      The new table, in place where its arrays are donated.
    """
    size = len(table["rows"])
    if optimizer.every_row:
        zeros_VD = jnp.zeros_like(table["rows"])
        gradient_UD = zeros_VD.at[index_U].add(gradient_UD, mode="drop")
        index_U = jnp.arange(size, dtype=jnp.int32)
    index_U = jnp.where(step.skip, size, index_U)

    blocks = -(-len(index_U) // BLOCK_ROWS) if platform() == "cpu" else 1
    if blocks <= 1:
        return _apply(optimizer, table, index_U, gradient_UD, step)
    more = blocks * BLOCK_ROWS - len(index_U)
    index_U = jnp.pad(index_U, (0, more), constant_values=size)
    gradient_UD = jnp.pad(gradient_UD, ((0, more), (0, 0)))

    def move_block(i: jax.Array, table: Table) -> Table:
        index_b, gradient_bD = (
            lax.dynamic_slice_in_dim(x, i * BLOCK_ROWS, BLOCK_ROWS) for x in (index_U, gradient_UD)
        )
        return _apply(optimizer, table, index_b, gradient_bD, step)

    # Padding is at the end of sorted ids: its blocks are skipped.
    end = jnp.max(jnp.where(index_U < size, jnp.arange(1, len(index_U) + 1), 0))
    return lax.fori_loop(0, -(-end // BLOCK_ROWS), move_block, table)


def _apply(
    optimizer: RowOptimizer, table: Table, index_U: jax.Array, gradient_UD: jax.Array, step: RowStep
) -> Table:
    rows_VD, slots = table["rows"], table["slots"]
    # Dropped places are distinct too, so that the scatter may rely on it.
    index_U = jnp.where(index_U < len(rows_VD), index_U, len(rows_VD) + jnp.arange(len(index_U)))

    def read(x: jax.Array) -> jax.Array:
        return lines.read(x, index_U, 1, unique=True)

    new, direction_UD = optimizer.update(
        {name: read(x) for name, x in slots.items()}, gradient_UD, step.step
    )
    change_UD = -step.rate * direction_UD
    if step.decay:
        change_UD -= step.rate * step.decay * unpack(read(rows_VD), change_UD.dtype)
    if rows_VD.dtype == jnp.uint16:
        moved_UD = unpack(read(rows_VD), change_UD.dtype) + change_UD
        rounded_UD = stochastic_round(moved_UD, step.first_row + index_U, step.seed)
        rows_VD = lines.write(rows_VD, index_U, pack(rounded_UD))
    else:
        rows_VD = lines.add(rows_VD, index_U, change_UD)
    # What is written depends on what was read, so XLA keeps that order and needs no copy of the
    # slots; adding the difference instead would cost one.
    new_slots = {name: lines.write(slots[name], index_U, value) for name, value in new.items()}
    return {"rows": rows_VD, "slots": new_slots}
