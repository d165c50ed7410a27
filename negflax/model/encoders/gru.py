"""The GRU encoder: item vector ⊕ feedback features → recurrent cell → state (docs/method.md §4).

Shapes: B rows, T steps, D item width, F features together, H hidden.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from negflax.config import ModelConfig
from negflax.model.encoders.dropout import dropout
from negflax.model.encoders.gru_cell import gru

RECURRENT_GAIN = 0.7  # of the orthogonal blocks; 1 learns more slowly at high learning rates


class GRU(nnx.Module):
    """A GRU over events; a step's input holds the item and what the user did with it."""

    def __init__(self, config: ModelConfig, feature_sizes: dict[str, int], *, rngs: nnx.Rngs):
        """Parameters in `config.dtype`.

        Args:
          config: widths, features, dropout.
          feature_sizes: values of each dense feature (0, unknown, included); features of
            `config.features` that are missing here come as vectors from tables of their own.
          rngs: nnx random streams.
        """
        self.config = config
        hidden, inputs = config.hidden, config.embedding + config.feature_dim * len(config.features)
        dtype = jnp.dtype(config.dtype)
        normal = jax.nn.initializers.normal(1.0)
        orthogonal = jax.nn.initializers.orthogonal(RECURRENT_GAIN)
        glorot = jax.nn.initializers.glorot_uniform()
        self.features = nnx.Dict(
            {
                name: nnx.Param(
                    normal(rngs.params(), (feature_sizes[name], config.feature_dim), dtype)
                )
                for name in config.features
                if name in feature_sizes
            }
        )
        if config.latent_cross:
            crossed = config.feature_dim * len(config.features)
            self.cross = nnx.Param(jnp.zeros((crossed, config.embedding), dtype))
        self.kernel = nnx.Param(glorot(rngs.params(), (inputs, 3 * hidden), dtype))
        self.bias = nnx.Param(jnp.zeros(3 * hidden, dtype))
        blocks = [orthogonal(rngs.params(), (hidden, hidden), dtype) for _ in range(3)]
        self.recurrent = nnx.Param(jnp.concatenate(blocks, axis=1))
        self.recurrent_bias = nnx.Param(jnp.zeros(hidden, dtype))
        if hidden != config.embedding:
            self.output = nnx.Param(glorot(rngs.params(), (hidden, config.embedding), dtype))

    def vectors(
        self, feature_ids: dict[str, jax.Array], feature_vectors: dict[str, jax.Array]
    ) -> list[jax.Array]:
        """(B, T, feature_dim) embeddings of each of `config.features`, from here or a table."""
        looked_up = {name: table[...][feature_ids[name]] for name, table in self.features.items()}
        return [(looked_up | feature_vectors)[name] for name in self.config.features]

    def __call__(
        self,
        items_BTD: jax.Array,
        feature_ids: dict[str, jax.Array],
        feature_vectors: dict[str, jax.Array],
        reset_BT: jax.Array,
        *,
        start: jax.Array | None = None,
        dropout_seed: jax.Array | None = None,
        first_row: jax.Array | int = 0,
    ) -> tuple[jax.Array, jax.Array]:
        """(states_BTD, last_BH): user states to multiply item vectors with, and the cell's last.

        Args:
          items_BTD: input vectors of the items, of about unit variance.
          feature_ids: (B, T) integer values of the dense features.
          feature_vectors: (B, T, feature_dim) vectors of the features that live in tables.
          reset_BT: True where a new user begins.
          start: state of the cell before the first step, (B, H); zeros if absent.
          dropout_seed: uint32 scalar; None switches dropout off.
          first_row: place of row 0 in the global batch, for dropout.
        """
        config = self.config
        vectors = self.vectors(feature_ids, feature_vectors)
        if config.latent_cross:  # Beutel et al. 2018: item ⊙ (1 + W c)
            context_BTF = jnp.concatenate(vectors, axis=-1)
            items_BTD = items_BTD * (1 + context_BTF @ self.cross[...])
        inputs_BTF = jnp.concatenate([items_BTD, *vectors], axis=-1)
        first_row = jnp.asarray(first_row, jnp.int32)
        if dropout_seed is not None:
            inputs_BTF = dropout(inputs_BTF, config.dropout_input, dropout_seed, first_row)
        gates_TB3H = jnp.swapaxes(inputs_BTF, 0, 1) @ self.kernel[...] + self.bias[...]
        if start is None:
            start = jnp.zeros((len(items_BTD), config.hidden), items_BTD.dtype)
        states_TBH = gru(
            gates_TB3H, self.recurrent[...], self.recurrent_bias[...], reset_BT.T, start
        )
        states_BTH = jnp.swapaxes(states_TBH, 0, 1)
        if dropout_seed is not None:
            states_BTH = dropout(states_BTH, config.dropout_output, ~dropout_seed, first_row)
        if config.hidden != config.embedding:
            states_BTH = states_BTH @ self.output[...]
        return states_BTH, states_TBH[-1]
