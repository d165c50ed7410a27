"""A gated linear recurrence, computed in parallel over time: RG-LRU (De et al. 2024, Griffin).

    r = σ(W_r u),  i = σ(W_i u),  a = exp(−8 softplus(Λ) r),  h' = a ⊙ h + √(1 − a²) ⊙ (i ⊙ u)

The block is h gated by another projection of its input, followed by a feed-forward residual, as in
sequential recommenders of this kind (Yue et al. 2024, LRURec). As the recurrence is linear in h,
an associative scan needs log T passes instead of T steps.

Shapes: B rows, T steps, H hidden.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from negflax.config import ModelConfig
from negflax.model.encoders.products import matmul
from negflax.model.encoders.stack import Norm, Stack

DECAY = 8.0  # c of Griffin: the gate r moves a over several orders of 1 − a
SLOWEST, FASTEST = 0.999, 0.5  # a at r = 1/2, spread over the units at the start
FLOOR = 1e-6  # under the root, whose slope has no bound at 0


class FeedForward(nnx.Module):
    """Two products with a GELU between them, twice as wide inside."""

    def __init__(self, width: int, dtype: jnp.dtype, *, rngs: nnx.Rngs):
        """Glorot start values."""
        glorot = jax.nn.initializers.glorot_uniform()
        self.up = nnx.Param(glorot(rngs.params(), (width, 2 * width), dtype))
        self.down = nnx.Param(glorot(rngs.params(), (2 * width, width), dtype))
        self.norm = Norm(width, dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """What is added to x."""
        return matmul(jax.nn.gelu(matmul(self.norm(x), self.up[...])), self.down[...])


class LinearRecurrence(nnx.Module):
    """One RG-LRU block."""

    def __init__(self, width: int, config: ModelConfig, *, rngs: nnx.Rngs):
        """A block over inputs of `width` = H."""
        dtype = jnp.dtype(config.dtype)
        glorot = jax.nn.initializers.glorot_uniform()
        self.kernel = nnx.Param(glorot(rngs.params(), (width, 2 * width), dtype))
        self.gates = nnx.Param(glorot(rngs.params(), (width, 2 * width), dtype))
        self.gates_bias = nnx.Param(jnp.zeros(2 * width, dtype))
        a_H = 1 - jnp.geomspace(1 - SLOWEST, 1 - FASTEST, width)
        rate_H = -jnp.log(a_H) / (DECAY * 0.5)
        self.decay = nnx.Param(jnp.log(jnp.expm1(rate_H)).astype(dtype))  # softplus⁻¹
        self.down = nnx.Param(glorot(rngs.params(), (width, width), dtype))
        self.feed_forward = FeedForward(width, dtype, rngs=rngs)

    def __call__(
        self, x_BTH: jax.Array, reset_BT: jax.Array, start: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """(what is added to the residual stream, h after the last step)."""
        u_BTH, gate_BTH = jnp.split(matmul(x_BTH, self.kernel[...]), 2, axis=-1)
        r_BTH, i_BTH = jnp.split(
            jax.nn.sigmoid(matmul(u_BTH, self.gates[...]) + self.gates_bias[...]), 2, axis=-1
        )
        log_a_BTH = -DECAY * jax.nn.softplus(self.decay[...]) * r_BTH
        scale_BTH = jnp.sqrt(jnp.maximum(-jnp.expm1(2 * log_a_BTH), FLOOR))
        states_BTH = linear_scan(jnp.exp(log_a_BTH), scale_BTH * i_BTH * u_BTH, reset_BT, start)
        y_BTH = matmul(jax.nn.gelu(gate_BTH) * states_BTH, self.down[...])
        return y_BTH + self.feed_forward(x_BTH + y_BTH), states_BTH[:, -1]


def linear_scan(
    a_BTH: jax.Array, b_BTH: jax.Array, reset_BT: jax.Array, start_BH: jax.Array | None
) -> jax.Array:
    """h_t = a_t ⊙ h_{t−1} + b_t for all t, with h_{t−1} = 0 where `reset_BT`.

    Args:
      a_BTH: factors.
      b_BTH: what is added.
      reset_BT: True where nothing before counts.
      start_BH: h before the first step; zeros if absent.
    """
    a_BTH = jnp.where(reset_BT[..., None], 0, a_BTH)
    if start_BH is not None:
        b_BTH = b_BTH.at[:, 0].add(a_BTH[:, 0] * start_BH)

    def join(earlier, later):
        return earlier[0] * later[0], later[0] * earlier[1] + later[1]

    return jax.lax.associative_scan(join, (a_BTH, b_BTH), axis=1)[1]


class RGLRU(Stack):
    """RG-LRU blocks."""

    layer_class, projected = LinearRecurrence, True
