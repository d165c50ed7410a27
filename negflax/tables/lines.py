"""Rows in lines: how a TPU stores a table, as (V, D) to everything but this package.

A TPU keeps arrays in tiles of 8 × 128 values. Rows that do not fill whole tiles it would lay out
column by column, while gathers and scatters want rows: every step would copy the whole table twice.
So rows of 64 stand two by two in lines of 128, rows of 16 eight by eight, and the bias, one value a
row, apart. Checkpoints hold (V, D) all the same (`plain`), and other platforms store that.

Shapes: V rows of width D, bias included; L lines of width W that hold P rows each; U rows that are
read or written.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

LANES = 128


@dataclasses.dataclass(frozen=True)
class Lines:
    """A table (V, D) in lines; V is a multiple of P.

    Attributes:
      lines_LW: P rows side by side, each followed by what fills its place.
      bias_V: the last column, or None where the table has no bias.
      width: D.
    """

    lines_LW: jax.Array
    bias_V: jax.Array | None
    width: int

    @property
    def per_line(self) -> int:
        """P."""
        return rows_per_line(self.width - (self.bias_V is not None))

    @property
    def place(self) -> int:
        """Columns of a line that belong to one row."""
        return self.lines_LW.shape[1] // self.per_line

    @property
    def shape(self) -> tuple[int, int]:
        """(V, D)."""
        return len(self.lines_LW) * self.per_line, self.width

    @property
    def dtype(self) -> jnp.dtype:
        """Of rows and bias."""
        return self.lines_LW.dtype

    def __len__(self) -> int:
        """V."""
        return self.shape[0]


jax.tree_util.register_dataclass(Lines, ["lines_LW", "bias_V"], ["width"])

Rows = jax.Array | Lines  # (V, D)


def rows_per_line(values: int) -> int:
    """P, the rows of so many values that a line holds."""
    return max(1, LANES >> max(0, values - 1).bit_length())


def to_lines(rows_VD: jax.Array, bias: bool) -> Lines:
    """(V, D) rows in lines; V a multiple of P.

    Args:
      rows_VD: as they are elsewhere.
      bias: whether the last column is one value for each row and stands apart.
    """
    width = rows_VD.shape[1]
    values_VD = rows_VD[:, : width - bias]
    per_line = rows_per_line(width - bias)
    place = LANES // per_line if per_line > 1 else -(-(width - bias) // LANES) * LANES
    padded = jnp.pad(values_VD, ((0, 0), (0, place - values_VD.shape[1])))
    lines_LW = padded.reshape(-1, per_line * place)
    return Lines(lines_LW, rows_VD[:, -1] if bias else None, width)


def to_rows(rows: Rows) -> jax.Array:
    """(V, D), whatever the storage."""
    if not isinstance(rows, Lines):
        return rows
    values = rows.width - (rows.bias_V is not None)
    rows_VD = rows.lines_LW.reshape(-1, rows.place)[:, :values]
    if rows.bias_V is None:
        return rows_VD
    return jnp.concatenate([rows_VD, rows.bias_V[:, None]], axis=1)


# --- some rows of a shard -----------------------------------------------------------------------


def read(rows: Rows, index: jax.Array, fill: float, *, unique: bool = False) -> jax.Array:
    """Rows (…, D) at an index of any shape; `fill` beyond V. Other arrays (V, …) are read alike.

    Args:
      rows: of a shard, or what the optimizer keeps for them.
      index: local places; negative ones are not allowed.
      fill: value of rows that are not there.
      unique: no place occurs twice.
    """
    if not isinstance(rows, Lines):
        return rows.at[index].get(mode="fill", fill_value=fill, unique_indices=unique)
    line, part = _line_and_part(rows, index)
    found = rows.lines_LW.at[line].get(mode="fill", fill_value=fill)
    found = found.reshape(*index.shape, rows.per_line, rows.place)
    mine = jnp.arange(rows.per_line) == part[..., None]
    found = jnp.sum(jnp.where(mine[..., None], found, 0), axis=-2, dtype=found.dtype)
    values = rows.width - (rows.bias_V is not None)
    if rows.bias_V is None:
        return found[..., :values]
    bias = rows.bias_V.at[index].get(mode="fill", fill_value=fill)
    return jnp.concatenate([found[..., :values], bias[..., None]], axis=-1)


def add(rows: Rows, index_U: jax.Array, change_UD: jax.Array) -> Rows:
    """The rows with a change added at distinct places; those ≥ V are dropped."""
    if not isinstance(rows, Lines):
        return rows.at[index_U].add(change_UD, mode="drop", unique_indices=True)
    line_U, part_U = _line_and_part(rows, index_U)
    wide_UW = _in_place(rows, part_U, change_UD)
    bias_V = rows.bias_V
    if bias_V is not None:
        bias_V = bias_V.at[index_U].add(change_UD[:, -1], mode="drop", unique_indices=True)
    return Lines(rows.lines_LW.at[line_U].add(wide_UW, mode="drop"), bias_V, rows.width)


def write(rows: Rows, index_U: jax.Array, values: jax.Array) -> Rows:
    """The rows, or other arrays (V, …), with new values at distinct places; those ≥ V are dropped.

    Args:
      rows: of a shard, or what the optimizer keeps for them.
      index_U: ascending, but for those ≥ V, which may stand anywhere.
      values: (U, D), or (U, …).
    """
    if not isinstance(rows, Lines):
        return rows.at[index_U].set(values, mode="drop", unique_indices=True)
    # The new rows of a line go there together: first side by side, then over the old ones.
    line_U, part_U = _line_and_part(rows, index_U)
    begins_U = jnp.diff(line_U, prepend=-1) != 0
    at_U = jnp.cumsum(begins_U) - 1
    size = len(index_U)
    lines_U = jnp.full(size, len(rows.lines_LW), line_U.dtype).at[at_U].set(line_U)
    beyond_U = len(rows.lines_LW) + jnp.arange(size, dtype=line_U.dtype)
    lines_U = jnp.where(lines_U < len(rows.lines_LW), lines_U, beyond_U)
    own_UW = _in_place(rows, part_U, values)
    new_UW = jnp.zeros_like(own_UW).at[at_U].add(own_UW)
    mine_UP = (jnp.arange(rows.per_line) == part_U[:, None]).astype(jnp.int32)
    new_UP = jnp.zeros_like(mine_UP).at[at_U].add(mine_UP) > 0
    old_UW = rows.lines_LW.at[lines_U].get(mode="fill", fill_value=0, unique_indices=True)
    new_UW = jnp.where(jnp.repeat(new_UP, rows.place, axis=1), new_UW, old_UW)
    bias_V = rows.bias_V
    if bias_V is not None:
        bias_V = bias_V.at[index_U].set(values[:, -1], mode="drop", unique_indices=True)
    lines_LW = rows.lines_LW.at[lines_U].set(new_UW, mode="drop", unique_indices=True)
    return Lines(lines_LW, bias_V, rows.width)


def _line_and_part(rows: Lines, index: jax.Array) -> tuple[jax.Array, jax.Array]:
    """index // P and index mod P, P being a power of two."""
    return index >> (rows.per_line.bit_length() - 1), index & (rows.per_line - 1)


def _in_place(rows: Lines, part_U: jax.Array, values_UD: jax.Array) -> jax.Array:
    """(U, W): the values, without bias, at their part of a line; 0 elsewhere."""
    values = rows.width - (rows.bias_V is not None)
    values_UD = values_UD[:, :values].astype(rows.dtype)
    padded = jnp.pad(values_UD, ((0, 0), (0, rows.place - values)))
    mine_UP = jnp.arange(rows.per_line) == part_U[:, None]
    wide_UPW = jnp.where(mine_UP[..., None], padded[:, None], jnp.zeros((), rows.dtype))
    return wide_UPW.reshape(len(part_U), -1)
