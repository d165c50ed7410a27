"""Extra columns of a state: a few items of its own beside the candidates that all states share.

`ssm_upweighted` and `contrastive` read the state's recent negative items, `gbce` a few candidates.
They cost O(N·E·D), and are found by place, so that nothing more is fetched from a table.

Shapes: B rows, T steps, L labels a step, E or K columns of a state, S candidates.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def recent_negatives(negative_BTL: jax.Array, reset_BT: jax.Array, count: int) -> jax.Array:
    """The newest negative labels of the user up to each step, newest first.

    Args:
      negative_BTL: whether a label is a negative one.
      reset_BT: where a user begins.
      count: E.

    Returns:
      int32 (B, T, E), places in the row's T·L labels; −1 where there are fewer.
    """
    rows, steps, labels = negative_BTL.shape

    def step(newest_BE, inputs):
        negative_BL, reset_B, t = inputs
        newest_BE = jnp.where(reset_B[:, None], -1, newest_BE)
        for label in range(labels):
            place_B1 = jnp.broadcast_to(t * labels + label, (rows, 1)).astype(jnp.int32)
            pushed_BE = jnp.concatenate([place_B1, newest_BE[:, :-1]], axis=1)
            newest_BE = jnp.where(negative_BL[:, label, None], pushed_BE, newest_BE)
        return newest_BE, newest_BE

    inputs = jnp.swapaxes(negative_BTL, 0, 1), reset_BT.T, jnp.arange(steps, dtype=jnp.int32)
    start = jnp.full((rows, count), -1, jnp.int32)
    return jnp.swapaxes(lax.scan(step, start, inputs)[1], 0, 1)


def candidate_windows(first_row: jax.Array, rows: int, count: int, size: int) -> jax.Array:
    """(B, K) places among S independent draws: one window of K for each row of the batch.

    Rows take one window after the other, so that they share a draw only once S < B·K.
    """
    row_B1 = first_row + jnp.arange(rows, dtype=jnp.int32)[:, None]
    return (row_B1 * count + jnp.arange(count, dtype=jnp.int32)) % size
