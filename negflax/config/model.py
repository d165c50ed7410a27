"""Settings of the user encoder and the item vectors."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The user encoder and the item vectors (docs/method.md §4).

    Attributes:
      encoder: recurrent cell: `gru`.
      hidden: H, width of the encoder's state.
      embedding: D, width of an item's row.
      feature_dim: width of the embedding of each feedback feature.
      features: event features beside the item: any of `dislike`, `dismissal`, `dwell`,
        `watch_ratio`, `gap`, `surface`, `creator`, `cluster`. The bits a model must not see are
        left out here.
      latent_cross: the step's item vector is multiplied by 1 + W c, c the features' embeddings
        (Beutel et al. 2018): a dislike may then turn it around, which a sum cannot.
      tied: one item table for input and output, or one each.
      composed: what an item's vector holds besides its own row, on both sides: the row of its
        `creator`, the mean of those of its clusters (`cluster`), both or neither.
      item_bias: a learned bias for each item, kept as one more column of its output row.
      dropout_input: share of the encoder's input that is dropped in training.
      dropout_output: share of the user state that is dropped in training.
      dtype: of parameters and products, `float32` or `float64` (needs jax_enable_x64).
      behaviour_head: estimate the logging policy from the state, for the objective `reinforce`.
    """

    encoder: str = "gru"
    hidden: int = 64
    embedding: int = 64
    feature_dim: int = 8
    features: tuple[str, ...] = ("dislike", "dwell", "watch_ratio", "gap")
    latent_cross: bool = False
    tied: bool = True
    composed: tuple[str, ...] = ()
    item_bias: bool = True
    dropout_input: float = 0.1
    dropout_output: float = 0.1
    dtype: str = "float32"
    behaviour_head: bool = False
