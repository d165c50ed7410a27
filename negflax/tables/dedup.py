"""The distinct ids of a step, found without a sort and without an array of the table's size.

Every id is written to a place that is its own: its row where the table is small, else a slot of a
hash table a few times larger than the number of ids. What of all equal ids came first stands for
them. Shapes: K ids, U distinct ids, M slots.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from negflax.hashing import mix

SLOTS_PER_ID = 8


def distinct(ids_K: jax.Array, num_rows: int) -> tuple[jax.Array, jax.Array]:
    """(ids_U, index_K): the distinct ids in order of appearance, and each id's place among them.

    U = min(K, num_rows + 1) is static; unused places hold `num_rows`, and so does every id outside
    0..num_rows − 1. It lies beyond the table, so that lookups give 0 there and updates are dropped.
    """
    most, size = len(ids_K), min(len(ids_K), num_rows + 1)
    ids_K = jnp.where((ids_K >= 0) & (ids_K < num_rows), ids_K, num_rows)
    slots = 1 << (SLOTS_PER_ID * most).bit_length()
    if num_rows < slots:
        slot_K, slots = ids_K, num_rows + 1
    else:
        slot_K = _hash_slots(ids_K, slots)
    place_K = jnp.arange(most, dtype=jnp.int32)
    first_K = jnp.full(slots, most, jnp.int32).at[slot_K].min(place_K)[slot_K]
    new_K = first_K == place_K
    rank_K = jnp.cumsum(new_K, dtype=jnp.int32) - 1
    ids_U = jnp.full(size, num_rows, ids_K.dtype)
    ids_U = ids_U.at[jnp.where(new_K, rank_K, size)].set(ids_K, mode="drop")
    return ids_U, rank_K[first_K]


def _hash_slots(ids_K: jax.Array, slots: int) -> jax.Array:
    """A slot of its own for every distinct id ≥ 0: open addressing with double hashing.

    In a round, ids whose slot is free claim it, of several the largest wins, and who has lost goes
    on to the next slot of its own sequence. Equal ids go the same way. The stride is odd and
    `slots` a power of two, so that a sequence reaches every slot.
    """
    hash_K = mix(ids_K.astype(jnp.uint32))
    stride_K = (mix(~hash_K) | 1).astype(jnp.int32)
    free, last = -1, slots - 1

    def claim(carry):
        table_M, slot_K, _ = carry
        target_K = jnp.where(table_M[slot_K] == free, slot_K, slots)
        table_M = table_M.at[target_K].max(ids_K, mode="drop")
        lost_K = table_M[slot_K] != ids_K
        return table_M, jnp.where(lost_K, slot_K + stride_K, slot_K) & last, jnp.any(lost_K)

    start = (
        jnp.full(slots, free, ids_K.dtype),
        hash_K.astype(jnp.int32) & last,
        jnp.ones((), bool),
    )
    return lax.while_loop(lambda carry: carry[2], claim, start)[1]
