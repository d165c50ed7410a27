"""A recurrent layer over time, for any cell, with the recurrent weight's gradient as one product.

JAX would differentiate the scan by adding one small product to the weight's gradient at each step.
Here the backward scan keeps the gradients of g = h U, and one product after it gives that of U.

Shapes, time first: T steps, B rows, G gates together, H hidden.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from negflax.model.encoders.products import current, matmul, transposed

Carry = tuple[jax.Array, ...]  # of (B, H), the layer's output h first
Cell = Callable[[jax.Array, jax.Array, Carry], Carry]


def recurrence(
    cell: Cell,
    inputs_TBG: jax.Array,
    recurrent_HG: jax.Array,
    reset_TB: jax.Array,
    start: Carry,
) -> Carry:
    """The carry (T, B, H) after each step.

    Args:
      cell: (inputs_BG, g_BG, carry before) → carry after, element by element, with g = h U.
      inputs_TBG: projected inputs, biases included.
      recurrent_HG: U.
      reset_TB: True zeroes the carry before the step (a new user begins).
      start: the carry before the first step.
    """
    return _recurrence(cell, current(), inputs_TBG, recurrent_HG, reset_TB, start)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _recurrence(cell, precision, inputs_TBG, recurrent_HG, reset_TB, start):
    return _forward(cell, precision, inputs_TBG, recurrent_HG, reset_TB, start)[0]


def _forward(cell, precision, inputs_TBG, recurrent_HG, reset_TB, start):
    def step(carry, x):
        inputs_BG, reset_B = x
        before = jax.tree.map(lambda x_BH: jnp.where(reset_B[:, None], 0, x_BH), carry)
        g_BG = matmul(before[0], recurrent_HG, precision)
        after, back = jax.vjp(cell, inputs_BG, g_BG, before)
        return after, (after, before[0], back)

    _, (after, *kept) = lax.scan(step, start, (inputs_TBG, reset_TB))
    return after, kept


def _fwd(cell, precision, inputs_TBG, recurrent_HG, reset_TB, start):
    after, kept = _forward(cell, precision, inputs_TBG, recurrent_HG, reset_TB, start)
    return after, (kept, recurrent_HG, reset_TB)


def _bwd(cell: Cell, precision: str, residuals: Any, d_after: Carry):
    (before_TBH, back_T), recurrent_HG, reset_TB = residuals
    hidden, gates = recurrent_HG.shape
    recurrent_GH = transposed(recurrent_HG, precision)

    def step(carried, x):
        d_carry, back, reset_B = x
        d_inputs, d_g_BG, d_before = back(jax.tree.map(jnp.add, d_carry, carried))
        d_before = (d_before[0] + matmul(d_g_BG, recurrent_GH, precision), *d_before[1:])
        kept = jax.tree.map(lambda x_BH: jnp.where(reset_B[:, None], 0, x_BH), d_before)
        # Of a cell that reads inputs and g as their sum alone, both gradients are one array.
        return kept, (d_g_BG,) if d_inputs is d_g_BG else (d_g_BG, d_inputs)

    none = jax.tree.map(lambda x: jnp.zeros_like(x[0]), d_after)
    xs = d_after, back_T, reset_TB
    d_start, (d_g_TBG, *d_inputs) = lax.scan(step, none, xs, reverse=True)
    before_HN = transposed(before_TBH.reshape(-1, hidden), precision)
    d_recurrent = matmul(before_HN, d_g_TBG.reshape(-1, gates), precision)
    return (d_inputs or [d_g_TBG])[0], d_recurrent, None, d_start


_recurrence.defvjp(_fwd, _bwd)
