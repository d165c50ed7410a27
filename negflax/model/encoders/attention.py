"""Causal self-attention over a window of recent events, packed like the recurrent encoders.

As SASRec (Kang & McAuley 2018), with pre-norm blocks and a learned bias for each distance instead
of absolute positions, since a row of events may begin anywhere in a user's history. To go on later,
a layer keeps the keys and values of its last `config.model.context` events.

Shapes: B rows, T steps, C events kept, N heads, K width of a head, H = N·K hidden.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from negflax.config import ModelConfig
from negflax.model.encoders.linear_recurrence import FeedForward
from negflax.model.encoders.products import matmul
from negflax.model.encoders.stack import Stack


class Kept(NamedTuple):
    """The last events of each row.

    Attributes:
      keys_BCNK: their keys.
      values_BCNK: their values.
      valid_BC: whether the event is there and of the user at the end of the row.
    """

    keys_BCNK: jax.Array
    values_BCNK: jax.Array
    valid_BC: jax.Array


class CausalAttention(nnx.Module):
    """One block: attention to earlier events of the same user, then a feed-forward residual."""

    def __init__(self, width: int, config: ModelConfig, *, rngs: nnx.Rngs):
        """A block over inputs of `width` = H."""
        dtype = jnp.dtype(config.dtype)
        glorot = jax.nn.initializers.glorot_uniform()
        self.heads, self.context = config.heads, config.context
        self.qkv = nnx.Param(glorot(rngs.params(), (width, 3 * width), dtype))
        self.down = nnx.Param(glorot(rngs.params(), (width, width), dtype))
        self.distance = nnx.Param(jnp.zeros((config.heads, config.context + 1), dtype))
        self.feed_forward = FeedForward(width, dtype, rngs=rngs)

    def __call__(
        self, x_BTH: jax.Array, reset_BT: jax.Array, start: Kept | None
    ) -> tuple[jax.Array, Kept]:
        """(what is added to the residual stream, the events kept)."""
        rows, steps, width = x_BTH.shape
        qkv = matmul(x_BTH, self.qkv[...]).reshape(rows, steps, 3, self.heads, width // self.heads)
        query, key, value = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        before = 0 if start is None else self.context
        valid_BS = jnp.ones((rows, steps), bool)
        if start is not None:
            key = jnp.concatenate([start.keys_BCNK, key], axis=1)
            value = jnp.concatenate([start.values_BCNK, value], axis=1)
            valid_BS = jnp.concatenate([start.valid_BC, valid_BS], axis=1)
        user_BT = jnp.cumsum(reset_BT, axis=1)  # 0: the user of the events kept
        user_BS = jnp.pad(user_BT, ((0, 0), (before, 0)))
        place = jnp.arange(steps)[:, None] + before - jnp.arange(steps + before)
        near_TS = (place >= 0) & (place <= self.context)
        mask = near_TS & valid_BS[:, None] & (user_BT[:, :, None] == user_BS[:, None])
        bias_NTS = self.distance[...][:, jnp.clip(place, 0, self.context)]
        mixed = jax.nn.dot_product_attention(
            query, key, value, bias=bias_NTS[None], mask=mask[:, None]
        )
        y_BTH = matmul(mixed.reshape(rows, steps, width), self.down[...])
        valid_BS &= user_BS == user_BT[:, -1:]
        kept = Kept(*(_last(x, self.context) for x in (key, value, valid_BS)))
        return y_BTH + self.feed_forward(x_BTH + y_BTH), kept


def _last(x_BS: jax.Array, count: int) -> jax.Array:
    """The last `count` along the second axis, zeros before the first."""
    missing = max(count - x_BS.shape[1], 0)
    return jnp.pad(x_BS, ((0, 0), (missing, 0), *((0, 0),) * (x_BS.ndim - 2)))[:, -count:]


class Attention(Stack):
    """Causal self-attention blocks."""

    layer_class, projected = CausalAttention, True
