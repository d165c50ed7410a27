"""The GRU encoder: item vector ⊕ feedback features → recurrent cell → state (docs/method.md §4).

Shapes: B rows, T steps, D item width, F features together, H hidden.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from negflax.config import ModelConfig
from negflax.model.encoders.dropout import dropout
from negflax.model.encoders.event_inputs import EventInputs
from negflax.model.encoders.gru_cell import gru
from negflax.model.encoders.products import matmul
from negflax.model.encoders.recurrent import RECURRENT_GAIN, GRULayer
from negflax.model.encoders.stack import Residuals


class GRU(EventInputs):
    """A GRU over events; a step's input holds the item and what the user did with it."""

    def __init__(self, config: ModelConfig, feature_sizes: dict[str, int], *, rngs: nnx.Rngs):
        """As EventInputs."""
        super().__init__(config, feature_sizes, rngs=rngs)
        hidden, dtype = config.hidden, jnp.dtype(config.dtype)
        orthogonal = jax.nn.initializers.orthogonal(RECURRENT_GAIN)
        glorot = jax.nn.initializers.glorot_uniform()
        self.kernel = nnx.Param(glorot(rngs.params(), (self.input_width, 3 * hidden), dtype))
        self.bias = nnx.Param(jnp.zeros(3 * hidden, dtype))
        blocks = [orthogonal(rngs.params(), (hidden, hidden), dtype) for _ in range(3)]
        self.recurrent = nnx.Param(jnp.concatenate(blocks, axis=1))
        self.recurrent_bias = nnx.Param(jnp.zeros(hidden, dtype))
        if config.layers > 1:
            self.upper = Residuals(GRULayer, config.layers - 1, config, rngs=rngs)
        if hidden != config.embedding:
            self.output = nnx.Param(glorot(rngs.params(), (hidden, config.embedding), dtype))

    def __call__(
        self,
        items_BTD: jax.Array,
        feature_ids: dict[str, jax.Array],
        feature_vectors: dict[str, jax.Array],
        reset_BT: jax.Array,
        *,
        start: Any = None,
        dropout_seed: jax.Array | None = None,
        first_row: jax.Array | int = 0,
    ) -> tuple[jax.Array, Any]:
        """(states_BTD, last): user states to multiply item vectors with, and the cells' last.

        `last` is (B, H), or with several layers a pair of it and what the upper ones keep.

        Args:
          items_BTD: input vectors of the items, of about unit variance.
          feature_ids: (B, T) integer values of the dense features.
          feature_vectors: (B, T, feature_dim) vectors of the features that live in tables.
          reset_BT: True where a new user begins.
          start: `last` of an earlier call; zeros if absent.
          dropout_seed: uint32 scalar; None switches dropout off.
          first_row: place of row 0 in the global batch, for dropout.
        """
        config = self.config
        first_row = jnp.asarray(first_row, jnp.int32)
        inputs_BTF = self.inputs(items_BTD, feature_ids, feature_vectors, dropout_seed, first_row)
        gates_TB3H = matmul(jnp.swapaxes(inputs_BTF, 0, 1), self.kernel[...]) + self.bias[...]
        lowest, upper = start if start is not None and config.layers > 1 else (start, None)
        if lowest is None:
            lowest = jnp.zeros((len(items_BTD), config.hidden), items_BTD.dtype)
        states_TBH = gru(
            gates_TB3H, self.recurrent[...], self.recurrent_bias[...], reset_BT.T, lowest
        )
        last: Any = states_TBH[-1]
        states_BTH = jnp.swapaxes(states_TBH, 0, 1)
        if dropout_seed is not None:
            states_BTH = dropout(states_BTH, config.dropout_output, ~dropout_seed, first_row)
        if config.layers > 1:
            states_BTH, ends = self.upper(states_BTH, reset_BT, upper, dropout_seed, first_row)
            last = last, ends
        if config.hidden != config.embedding:
            states_BTH = matmul(states_BTH, self.output[...])
        return states_BTH, last
