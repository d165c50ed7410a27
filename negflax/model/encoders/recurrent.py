"""Recurrent layers, and the LSTM and the chaos-free network made of them.

Shapes: B rows, T steps, F inputs of the layer, G gates together, H hidden.
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from negflax.config import ModelConfig
from negflax.model.encoders import recurrent_cells as cells
from negflax.model.encoders.products import matmul
from negflax.model.encoders.recurrence import Carry, Cell, recurrence
from negflax.model.encoders.stack import Stack

RECURRENT_GAIN = 0.7  # of the orthogonal blocks; 1 learns more slowly at high learning rates


class Recurrent(nnx.Module):
    """One recurrent layer; subclasses name the cell and count its parts.

    Attributes:
      cell: of `recurrence`.
      inputs: parts of width H that read the input.
      gates: parts of width H that read the state.
      carried: arrays that the cell carries.
    """

    cell: ClassVar[Cell]
    inputs: ClassVar[int]
    gates: ClassVar[int]
    carried: ClassVar[int]

    def __init__(self, width: int, config: ModelConfig, *, rngs: nnx.Rngs):
        """A layer over inputs of `width`."""
        hidden, dtype = config.hidden, jnp.dtype(config.dtype)
        glorot = jax.nn.initializers.glorot_uniform()
        orthogonal = jax.nn.initializers.orthogonal(RECURRENT_GAIN)
        self.kernel = nnx.Param(glorot(rngs.params(), (width, self.inputs * hidden), dtype))
        self.bias = nnx.Param(jnp.zeros(self.inputs * hidden, dtype))
        blocks = [orthogonal(rngs.params(), (hidden, hidden), dtype) for _ in range(self.gates)]
        self.recurrent = nnx.Param(jnp.concatenate(blocks, axis=1))

    def __call__(
        self, x_BTF: jax.Array, reset_BT: jax.Array, start: Carry | None
    ) -> tuple[jax.Array, Carry]:
        """(states_BTH, the carry after the last step)."""
        inputs_TBG = matmul(jnp.swapaxes(x_BTF, 0, 1), self.kernel[...]) + self.bias[...]
        if start is None:
            zeros_BH = jnp.zeros((len(x_BTF), self.recurrent.shape[0]), x_BTF.dtype)
            start = (zeros_BH,) * self.carried
        after = recurrence(type(self).cell, inputs_TBG, self.recurrent[...], reset_BT.T, start)
        return jnp.swapaxes(after[0], 0, 1), jax.tree.map(lambda x_TBH: x_TBH[-1], after)


class GRULayer(Recurrent):
    """See `cells.gru`."""

    cell, inputs, gates, carried = staticmethod(cells.gru), 3, 3, 1


class LSTMLayer(Recurrent):
    """See `cells.lstm`."""

    cell, inputs, gates, carried = staticmethod(cells.lstm), 4, 4, 2


class CFNLayer(Recurrent):
    """See `cells.cfn`."""

    cell, inputs, gates, carried = staticmethod(cells.cfn), 3, 2, 1


class LSTM(Stack):
    """LSTM layers."""

    layer_class = LSTMLayer


class CFN(Stack):
    """Chaos-free layers."""

    layer_class = CFNLayer
