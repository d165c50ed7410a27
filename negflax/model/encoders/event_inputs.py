"""What every built-in encoder reads of an event: the item's vector ⊕ its feedback features.

Shapes: B rows, T steps, D item width, F item and features together.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from negflax.config import ModelConfig
from negflax.model.encoders.dropout import dropout
from negflax.model.encoders.products import matmul


class EventInputs(nnx.Module):
    """Embeds the feedback features and joins them with the item; the base of the encoders."""

    def __init__(self, config: ModelConfig, feature_sizes: dict[str, int], *, rngs: nnx.Rngs):
        """Parameters in `config.dtype`.

        Args:
          config: widths, features, dropout.
          feature_sizes: values of each dense feature (0, unknown, included); features of
            `config.features` that are missing here come as vectors from tables of their own.
          rngs: nnx random streams.
        """
        self.config = config
        dtype = jnp.dtype(config.dtype)
        normal = jax.nn.initializers.normal(1.0)
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

    @property
    def input_width(self) -> int:
        """F."""
        return self.config.embedding + self.config.feature_dim * len(self.config.features)

    def vectors(
        self, feature_ids: dict[str, jax.Array], feature_vectors: dict[str, jax.Array]
    ) -> list[jax.Array]:
        """(B, T, feature_dim) embeddings of each of `config.features`, from here or a table."""
        looked_up = {name: table[...][feature_ids[name]] for name, table in self.features.items()}
        return [(looked_up | feature_vectors)[name] for name in self.config.features]

    def inputs(
        self,
        items_BTD: jax.Array,
        feature_ids: dict[str, jax.Array],
        feature_vectors: dict[str, jax.Array],
        dropout_seed: jax.Array | None,
        first_row: jax.Array,
    ) -> jax.Array:
        """(B, T, F) inputs of each step, some elements dropped in training.

        Args:
          items_BTD: input vectors of the items, of about unit variance.
          feature_ids: (B, T) integer values of the dense features.
          feature_vectors: (B, T, feature_dim) vectors of the features that live in tables.
          dropout_seed: uint32 scalar; None switches dropout off.
          first_row: place of row 0 in the global batch (int32), for dropout.
        """
        vectors = self.vectors(feature_ids, feature_vectors)
        if self.config.latent_cross:  # Beutel et al. 2018: item ⊙ (1 + W c)
            context_BTF = jnp.concatenate(vectors, axis=-1)
            items_BTD = items_BTD * (1 + matmul(context_BTF, self.cross[...]))
        inputs_BTF = jnp.concatenate([items_BTD, *vectors], axis=-1)
        if dropout_seed is None:
            return inputs_BTF
        return dropout(inputs_BTF, self.config.dropout_input, dropout_seed, first_row)
