"""The GRU over time with its own gradient.

The recurrent weight's gradient is one product after the scan instead of one small product a step,
and the input projection stays outside: the scan holds only what is truly sequential.

Cell (Cho et al. 2014, in cuDNN's form), g = h U:
  r = σ(x_r + g_r),  z = σ(x_z + g_z),  n = tanh(x_n + r ⊙ (g_n + b)),  h' = n + z ⊙ (h − n).

Shapes, time first: T steps, B rows, H hidden.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from negflax.model.encoders.products import current, matmul, transposed


def gru(
    inputs_TB3H: jax.Array,
    recurrent_H3H: jax.Array,
    bias_H: jax.Array,
    reset_TB: jax.Array,
    start_BH: jax.Array,
) -> jax.Array:
    """States (T, B, H) after each step.

    Args:
      inputs_TB3H: projected inputs of the gates r, z, n, biases included.
      recurrent_H3H: U.
      bias_H: b, inside the reset gate.
      reset_TB: True zeroes the state before the step (a new user begins).
      start_BH: state before the first step.
    """
    return _gru(inputs_TB3H, recurrent_H3H, bias_H, reset_TB, start_BH, current())


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _gru(inputs_TB3H, recurrent_H3H, bias_H, reset_TB, start_BH, precision):
    return _forward(inputs_TB3H, recurrent_H3H, bias_H, reset_TB, start_BH, precision)[0]


def _forward(inputs_TB3H, recurrent_H3H, bias_H, reset_TB, start_BH, precision):
    width = len(bias_H)

    def step(state_BH, x):
        inputs_B3H, reset_B = x
        before = jnp.where(reset_B[:, None], 0, state_BH)
        g = matmul(before, recurrent_H3H, precision)
        rz = jax.nn.sigmoid(inputs_B3H[:, : 2 * width] + g[:, : 2 * width])
        a = g[:, 2 * width :] + bias_H
        n = jnp.tanh(inputs_B3H[:, 2 * width :] + rz[:, :width] * a)
        after = n + rz[:, width:] * (before - n)
        return after, (after, before, rz, a, n)

    return lax.scan(step, start_BH, (inputs_TB3H, reset_TB))[1]


def _gru_fwd(inputs_TB3H, recurrent_H3H, bias_H, reset_TB, start_BH, precision):
    states, *kept = _forward(inputs_TB3H, recurrent_H3H, bias_H, reset_TB, start_BH, precision)
    return states, (kept, recurrent_H3H, reset_TB)


def _gru_bwd(precision, residuals, d_states_TBH):
    (before_TBH, rz_TB2H, a_TBH, n_TBH), recurrent_H3H, reset_TB = residuals
    width = a_TBH.shape[-1]
    recurrent_3HH = transposed(recurrent_H3H, precision)

    def step(carried_BH, x):
        d_state, before, rz, a, n, reset_B = x
        r, z = rz[:, :width], rz[:, width:]
        d_state = d_state + carried_BH
        d_n = d_state * (1 - z) * (1 - n * n)
        d_z = d_state * (before - n) * z * (1 - z)
        d_r = d_n * a * r * (1 - r)
        d_g = jnp.concatenate([d_r, d_z, d_n * r], axis=1)
        d_before = d_state * z + matmul(d_g, recurrent_3HH, precision)
        d_inputs = jnp.concatenate([d_r, d_z, d_n], axis=1)
        return jnp.where(reset_B[:, None], 0, d_before), (d_g, d_inputs)

    xs = d_states_TBH, before_TBH, rz_TB2H, a_TBH, n_TBH, reset_TB
    d_start_BH, (d_g_TB3H, d_inputs_TB3H) = lax.scan(
        step, jnp.zeros_like(d_states_TBH[0]), xs, reverse=True
    )
    flat = d_g_TB3H.reshape(-1, 3 * width)
    d_recurrent = matmul(transposed(before_TBH.reshape(-1, width), precision), flat, precision)
    return d_inputs_TB3H, d_recurrent, flat[:, 2 * width :].sum(0), None, d_start_BH


_gru.defvjp(_gru_fwd, _gru_bwd)
