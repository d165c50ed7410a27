"""bfloat16 rows: stochastic rounding, and the bits as uint16 that the state keeps.

An update below half a unit in the last place of a bfloat16 row (1/256 of its value) would vanish
with rounding to nearest; here it moves the row with the fitting probability (Gupta et al. 2015).

The state holds the bits, as XLA's CPU backend widens a bfloat16 scatter to float32, table and all.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from negflax.hashing import mix
from negflax.tables.lines import Rows, to_rows


def stochastic_round(x_UD: jax.Array, row_U: jax.Array, seed: jax.Array) -> jax.Array:
    """Either bfloat16 neighbour of each float32 value, with expectation the value itself.

    The draw is a function of (seed, row, column): the same on any number of devices.

    Args:
      x_UD: values; what is not finite stays as it is.
      row_U: int32 place of each row in the whole table.
      seed: uint32 scalar, new each step and each table.
    """
    bits = lax.bitcast_convert_type(x_UD.astype(jnp.float32), jnp.uint32)
    state_U1 = mix(row_U.astype(jnp.uint32) ^ seed)[:, None]
    draw = mix(state_U1 + lax.broadcasted_iota(jnp.uint32, x_UD.shape, 1)) >> 16
    # Of a float32 the upper 16 bits are the bfloat16 towards 0; the lower ones, as a share of
    # 2^16, are the distance to the next: adding 16 random bits carries with that chance.
    rounded = lax.bitcast_convert_type((bits + draw) >> 16 << 16, jnp.float32)
    return jnp.where(jnp.isfinite(x_UD), rounded, x_UD).astype(jnp.bfloat16)


def pack(rows: jax.Array) -> jax.Array:
    """bfloat16 rows as the state keeps them: their bits, uint16."""
    return lax.bitcast_convert_type(rows, jnp.uint16)


def unpack(rows: Rows, dtype: str) -> jax.Array:
    """Values (V, D) of rows from the state, in `dtype`: uint16 are the bits of bfloat16."""
    rows = to_rows(rows)
    rows = lax.bitcast_convert_type(rows, jnp.bfloat16) if rows.dtype == jnp.uint16 else rows
    return rows.astype(dtype)
