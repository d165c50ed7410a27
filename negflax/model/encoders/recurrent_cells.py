"""Cells of `recurrence`: GRU, LSTM and the chaos-free network, with one fused product a step."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from negflax.model.encoders.recurrence import Carry


def gru(inputs_BG: jax.Array, g_BG: jax.Array, carry: Carry) -> Carry:
    """(h,) of a GRU as in gru_cell.py, whose bias inside the reset gate it leaves out."""
    width = carry[0].shape[-1]
    gates = jax.nn.sigmoid(inputs_BG[:, : 2 * width] + g_BG[:, : 2 * width])
    r, z = gates[:, :width], gates[:, width:]
    n = jnp.tanh(inputs_BG[:, 2 * width :] + r * g_BG[:, 2 * width :])
    return (n + z * (carry[0] - n),)


def lstm(inputs_BG: jax.Array, g_BG: jax.Array, carry: Carry) -> Carry:
    """(h, c) of an LSTM (Gers et al. 2000), gates in the order input, forget, output, new.

    The forget gate has a constant 1 added to it, so that a layer remembers at first.
    """
    _, c = carry
    i, f, o, new = jnp.split(inputs_BG + g_BG, 4, axis=-1)
    c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(new)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def cfn(inputs_BG: jax.Array, g_BG: jax.Array, carry: Carry) -> Carry:
    """(h,) of a chaos-free network (Laurent & von Brecht 2017), as in Beutel et al. 2018.

    h' = θ ⊙ tanh(h) + η ⊙ tanh(W x); θ and η are gates of h and x. Without input it decays to 0.
    """
    width = carry[0].shape[-1]
    gates = jax.nn.sigmoid(inputs_BG[:, : 2 * width] + g_BG)
    remember, write = gates[:, :width], gates[:, width:]
    return (remember * jnp.tanh(carry[0]) + write * jnp.tanh(inputs_BG[:, 2 * width :]),)
