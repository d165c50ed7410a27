"""Encoders of several layers: input → layers with residuals → state.

A layer maps (B, T, width) to (B, T, H), and returns what it needs to go on with later events.

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
from negflax.model.encoders.products import matmul

EPSILON = 1e-6


class Norm(nnx.Module):
    """Root mean square norm with a learned scale (Zhang & Sennrich 2019)."""

    def __init__(self, width: int, dtype: jnp.dtype):
        """Scale 1."""
        self.scale = nnx.Param(jnp.ones(width, dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        """The last axis scaled to mean square 1."""
        return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + EPSILON) * self.scale[...]


class Residuals(nnx.Module):
    """Layers that are each added to their input: x + layer(norm(x))."""

    def __init__(
        self, layer_class: type[nnx.Module], count: int, config: ModelConfig, *, rngs: nnx.Rngs
    ):
        """`count` layers of the class, called as (width, config, rngs=…), all of width H."""
        hidden, dtype = config.hidden, jnp.dtype(config.dtype)
        self.layers = nnx.List([layer_class(hidden, config, rngs=rngs) for _ in range(count)])
        self.norms = nnx.List([Norm(hidden, dtype) for _ in range(count)])
        self.rate = config.dropout_output

    def __call__(
        self,
        x_BTH: jax.Array,
        reset_BT: jax.Array,
        start: tuple[Any, ...] | None,
        dropout_seed: jax.Array | None,
        first_row: jax.Array,
    ) -> tuple[jax.Array, tuple[Any, ...]]:
        """(outputs_BTH, what each layer needs to go on)."""
        starts = (None,) * len(self.layers) if start is None else start
        last = []
        for i, (norm, layer, begin) in enumerate(zip(self.norms, self.layers, starts, strict=True)):
            y_BTH, end = layer(norm(x_BTH), reset_BT, begin)
            if dropout_seed is not None:
                seed = mix(dropout_seed ^ jnp.uint32(i + 1))
                y_BTH = dropout(y_BTH, self.rate, seed, first_row)
            x_BTH += y_BTH
            last.append(end)
        return x_BTH, tuple(last)


class Stack(EventInputs):
    """Input → layers of one class → state; subclasses name the class.

    Attributes:
      layer_class: see `Residuals`; called as (x_BTF, reset_BT, start).
      projected: the inputs are first projected to H, so that all layers are residuals, and the
        states are normalised at the end. Else the first layer reads the inputs.
    """

    layer_class: ClassVar[type[nnx.Module]]
    projected: ClassVar[bool] = False

    def __init__(self, config: ModelConfig, feature_sizes: dict[str, int], *, rngs: nnx.Rngs):
        """As EventInputs."""
        super().__init__(config, feature_sizes, rngs=rngs)
        hidden, dtype = config.hidden, jnp.dtype(config.dtype)
        glorot, layer_class = jax.nn.initializers.glorot_uniform(), type(self).layer_class
        if self.projected:
            self.project = nnx.Param(glorot(rngs.params(), (self.input_width, hidden), dtype))
            self.norm_last = Norm(hidden, dtype)
        else:
            self.first = layer_class(self.input_width, config, rngs=rngs)
        residuals = config.layers - (not self.projected)
        self.residuals = Residuals(layer_class, residuals, config, rngs=rngs)
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
        """(states_BTD, what the layers need to go on); arguments as __init__.py says."""
        first_row = jnp.asarray(first_row, jnp.int32)
        x = self.inputs(items_BTD, feature_ids, feature_vectors, dropout_seed, first_row)
        begin, begins = (None, None) if start is None else start
        end = ()
        if self.projected:
            x = matmul(x, self.project[...])
        else:
            x, end = self.first(x, reset_BT, begin)
            if dropout_seed is not None:
                x = dropout(x, self.config.dropout_output, ~dropout_seed, first_row)
        x, ends = self.residuals(x, reset_BT, begins, dropout_seed, first_row)
        if self.projected:
            x = self.norm_last(x)
        if self.config.hidden != self.config.embedding:
            x = matmul(x, self.output[...])
        return x, (end, ends)
