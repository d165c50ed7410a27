"""A GRU beside a sum over the whole history, for logs in which taste hardly changes.

    state_t = GRU_t + G · Σ_j (1 + a·f_j) e_j / √n

The sum runs over the user's events j ≤ t, e_j the item's vector, f_j the embeddings of its feedback
features, n the number of events. A GRU forgets: on ratings it stays behind linear item-to-item
models, which weigh every item of the history alike (docs/your_own_logs.md). With a = 0 and one
table for input and output, the sum scores an item by its similarity to the items of the history, as
such models do; a lets a dislike count against.

Shapes: B rows, T steps, D item width, F features together.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from negflax.config import ModelConfig
from negflax.model.encoders.dropout import dropout
from negflax.model.encoders.gru import GRU
from negflax.model.encoders.products import matmul

START_GAIN = 0.3  # of G, a multiple of the identity at first
OTHER_SEED = 0x85EBCA6B  # events are dropped by other bits than elements of the GRU's input


class GRUMemory(GRU):
    """The GRU, and a sum that forgets nothing."""

    def __init__(self, config: ModelConfig, feature_sizes: dict[str, int], *, rngs: nnx.Rngs):
        """As GRU; the gate a starts at 0."""
        super().__init__(config, feature_sizes, rngs=rngs)
        dtype = jnp.dtype(config.dtype)
        self.memory = nnx.Param(START_GAIN * jnp.eye(config.embedding, dtype=dtype))
        if config.features:
            gates = config.feature_dim * len(config.features)
            self.memory_gate = nnx.Param(jnp.zeros(gates, dtype))

    def __call__(
        self,
        items_BTD: jax.Array,
        feature_ids: dict[str, jax.Array],
        feature_vectors: dict[str, jax.Array],
        reset_BT: jax.Array,
        *,
        start: tuple[jax.Array, jax.Array, jax.Array] | None = None,
        dropout_seed: jax.Array | None = None,
        first_row: jax.Array | int = 0,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
        """(states_BTD, (the GRU's last (B, H), last sum (B, D), events (B,))); as GRU."""
        cell_start, sum_BD, events_B = (None, None, None) if start is None else start
        states_BTD, cell_last = super().__call__(
            items_BTD,
            feature_ids,
            feature_vectors,
            reset_BT,
            start=cell_start,
            dropout_seed=dropout_seed,
            first_row=first_row,
        )
        weight_BT1 = jnp.ones((*reset_BT.shape, 1), items_BTD.dtype)
        if self.config.features:
            context_BTF = jnp.concatenate(self.vectors(feature_ids, feature_vectors), axis=-1)
            weight_BT1 += (context_BTF @ self.memory_gate[...])[..., None]
        if dropout_seed is not None:  # whole events, so that no single one is relied on
            seed, row = dropout_seed ^ jnp.uint32(OTHER_SEED), jnp.asarray(first_row, jnp.int32)
            weight_BT1 = dropout(weight_BT1, self.config.dropout_input, seed, row)
        sums_BTD = sum_since_reset(items_BTD * weight_BT1, reset_BT, sum_BD)
        ones_BT = jnp.ones(reset_BT.shape, items_BTD.dtype)
        counts_BT = sum_since_reset(ones_BT, reset_BT, events_B)
        states_BTD += matmul(sums_BTD / jnp.sqrt(counts_BT)[..., None], self.memory[...])
        return states_BTD, (cell_last, sums_BTD[:, -1], counts_BT[:, -1])


def sum_since_reset(x_BT: jax.Array, reset_BT: jax.Array, start_B: jax.Array | None) -> jax.Array:
    """Running sums along T of x (B, T, …), begun anew where `reset_BT`.

    Args:
      x_BT: what is summed.
      reset_BT: True where nothing before counts.
      start_B: sums before the first step, (B, …); zeros if absent.
    """
    start_B = jnp.zeros_like(x_BT[:, 0]) if start_B is None else start_B
    x_BT = jnp.concatenate([start_B[:, None], x_BT], axis=1)
    goes_on_BT = jnp.pad(~reset_BT, ((0, 0), (1, 0)), constant_values=True)
    goes_on_BT = goes_on_BT.reshape(*goes_on_BT.shape, *(1,) * (x_BT.ndim - 2))

    def join(earlier, later):
        return earlier[0] & later[0], jnp.where(later[0], earlier[1], 0) + later[1]

    return jax.lax.associative_scan(join, (goes_on_BT, x_BT), axis=1)[1][:, 1:]
