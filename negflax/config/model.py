"""Settings of the user encoder and the item vectors."""

from __future__ import annotations

import dataclasses
import typing
from typing import Annotated, Literal

from negflax.config.kinds import Count, Share
from negflax.config.registry import Registry

Feature = Literal[
    "dislike", "dismissal", "dwell", "watch_ratio", "gap", "surface", "creator", "cluster"
]
RequestFeature = Literal["gap", "hour", "weekday"]
FEATURES: tuple[str, ...] = typing.get_args(Feature)
_BUILT_IN = ("gru", "gru_memory", "lstm", "cfn", "rglru", "attention")
ENCODERS = Registry("model.encoder", "negflax.register_encoder", dict.fromkeys(_BUILT_IN))


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The user encoder and the item vectors (docs/method.md §4).

    Attributes:
      encoder: `gru`, `gru_memory` (a GRU beside a sum over the whole history: where taste hardly
        changes, as in ratings), `lstm`, `cfn` (a chaos-free network), `rglru` (a gated linear
        recurrence, computed in parallel over time), `attention` (causal, as SASRec), or one of
        your own (docs/extending.md).
      hidden: H, width of the encoder's state.
      layers: of the encoder; those above the first are pre-norm residuals.
      heads: of `attention`; they share `hidden`.
      context: events that `attention` sees before the present one.
      embedding: D, width of an item's row.
      feature_dim: width of the embedding of each feedback feature.
      features: event features beside the item: any of `dislike`, `dismissal`, `dwell`,
        `watch_ratio`, `gap`, `surface`, `creator`, `cluster`. The bits a model must not see are
        left out here.
      latent_cross: the step's item vector is multiplied by 1 + W c, c the features' embeddings
        (Beutel et al. 2018): a dislike may then turn it around, which a sum cannot.
      request: what the state is told of the time at which a list is asked for, any of `gap` (since
        the user's last event), `hour` and `weekday` (UTC): known before the list is shown. In
        training it is the time of the next event, in evaluation that of the query.
      tied: one item table for input and output, or one each.
      composed: what an item's vector holds besides its own row, on both sides: the row of its
        `creator`, the mean of those of its clusters (`cluster`), and a learned linear projection of
        its `item_vector` in the item table (`vector`), such as the embedding of a text.
      item_bias: a learned bias for each item, kept as one more column of its output row.
      dropout_input: share of the encoder's input that is dropped in training.
      dropout_output: share of the user state that is dropped in training.
      dtype: of parameters, states and sums, `float32` or `float64` (needs jax_enable_x64).
      precision: of the products of encoder and loss. `float32`: those of `dtype`, on every
        platform. `bfloat16`: their operands are rounded to bfloat16, their sums are float32.
        `auto`: bfloat16 where the processor multiplies it faster, else float32.
      behaviour_head: estimate the logging policy from the state, for the objective `reinforce`.
    """

    encoder: Annotated[str, ENCODERS] = "gru"
    hidden: Count = 64
    layers: Count = 1
    heads: Count = 2
    context: Count = 200
    embedding: Count = 64
    feature_dim: Count = 8
    features: tuple[Feature, ...] = ("dislike", "dwell", "watch_ratio", "gap")
    latent_cross: bool = False
    request: tuple[RequestFeature, ...] = ()
    tied: bool = True
    composed: tuple[Literal["creator", "cluster", "vector"], ...] = ()
    item_bias: bool = True
    dropout_input: Share = 0.1
    dropout_output: Share = 0.1
    dtype: Literal["float32", "float64"] = "float32"
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    behaviour_head: bool = False
