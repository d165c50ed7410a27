"""Encoders of several layers: input → layers with residuals → state.

A layer maps (B, T, width) to (B, T, H) and keeps what it needs to go on; its class is an attribute
of the encoder. All layers, or all but the first, are pre-norm residuals: x + layer(norm(x)).

Shapes: B rows, T steps, D item width, F inputs together, H hidden.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from negflax.config import ModelConfig
from negflax.hashing import mix
from negflax.model.encoders.dropout import dropout
from negflax.model.encoders.event_inputs import EventInputs

EPSILON = 1e-6


class Norm(nnx.Module):
    """Root mean square norm with a learned scale (Zhang & Sennrich 2019)."""

    def __init__(self, width: int, dtype: jnp.dtype):
        """Scale 1."""
        self.scale = nnx.Param(jnp.ones(width, dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        """The last axis scaled to mean square 1."""
        return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + EPSILON) * self.scale[...]


class Stack(EventInputs):
    """Layers of one class over the events; subclasses name it.

    Attributes:
      layer_class: called as (input width, config, rngs=…), then as (x_BTF, reset_BT, start).
      projected: the inputs are first projected to H, so that all layers are residuals, and the
        states are normalised at the end.
    """

    layer_class: ClassVar[type[nnx.Module]]
    projected: ClassVar[bool] = False

    def __init__(self, config: ModelConfig, feature_sizes: dict[str, int], *, rngs: nnx.Rngs):
        """As EventInputs."""
        super().__init__(config, feature_sizes, rngs=rngs)
        hidden, dtype = config.hidden, jnp.dtype(config.dtype)
        glorot = jax.nn.initializers.glorot_uniform()
        width = self.input_width
        if self.projected:
            self.project = nnx.Param(glorot(rngs.params(), (width, hidden), dtype))
            self.norm_last = Norm(hidden, dtype)
            width = hidden
        widths = [width] + [hidden] * (config.layers - 1)
        self.layers = nnx.List([type(self).layer_class(w, config, rngs=rngs) for w in widths])
        self.norms = nnx.List([Norm(hidden, dtype) for _ in widths[self.plain :]])
        if hidden != config.embedding:
            self.output = nnx.Param(glorot(rngs.params(), (hidden, config.embedding), dtype))

    @property
    def plain(self) -> int:
        """Leading layers that are no residuals."""
        return 0 if self.projected else 1

    def __call__(
        self,
        items_BTD: jax.Array,
        feature_ids: dict[str, jax.Array],
        feature_vectors: dict[str, jax.Array],
        reset_BT: jax.Array,
        *,
        start: tuple[Any, ...] | None = None,
        dropout_seed: jax.Array | None = None,
        first_row: jax.Array | int = 0,
    ) -> tuple[jax.Array, tuple[Any, ...]]:
        """(states_BTD, what each layer needs to go on); arguments as in __init__.py of the room."""
        first_row = jnp.asarray(first_row, jnp.int32)
        x = self.inputs(items_BTD, feature_ids, feature_vectors, dropout_seed, first_row)
        if self.projected:
            x = x @ self.project[...]
        starts = (None,) * len(self.layers) if start is None else start
        last = []
        for i, (layer, begin) in enumerate(zip(self.layers, starts, strict=True)):
            residual = i >= self.plain
            y, end = layer(self.norms[i - self.plain](x) if residual else x, reset_BT, begin)
            if dropout_seed is not None:
                seed = mix(dropout_seed ^ jnp.uint32(i + 1))
                y = dropout(y, self.config.dropout_output, seed, first_row)
            x = x + y if residual else y
            last.append(end)
        if self.projected:
            x = self.norm_last(x)
        if self.config.hidden != self.config.embedding:
            x = x @ self.output[...]
        return x, tuple(last)
