"""Fingerprints of a state's arrays: what was saved is what comes back, on any mesh.

Storage that flips a bit within a chunk of floats gives other floats and no error. A fingerprint is
Σ bits · odd(position) mod 2³² of an array's 32-bit words: one flipped bit always changes it, other
damage goes unseen with probability 2⁻³². Rows that only pad a table to the device count are left
out, so that it is the same for any number of devices.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

VOCABULARY = "vocabulary"  # the fingerprint that is no array's


@dataclasses.dataclass(frozen=True)
class Identity:
    """What makes a state mean what it meant when it was saved.

    Attributes:
      vocabulary: which item each row is: `Catalogue.fingerprint`.
      num_rows: V of each table, without padding.
    """

    vocabulary: int
    num_rows: Mapping[str, int]

    def of(self, state: Any) -> dict[str, int]:
        """Fingerprints of the vocabulary and of every array of a state or a part of it."""
        return {VOCABULARY: self.vocabulary} | fingerprints(state, self.num_rows)


def fingerprints(state: Any, num_rows: Mapping[str, int]) -> dict[str, int]:
    """Path of each array → its fingerprint.

    Args:
      state: the training state or a part of it.
      num_rows: V of each table, without padding.
    """
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): (path, leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }
    rows = {
        name: num_rows[path[1].key] if path[0].key == "tables" else None
        for name, (path, _) in leaves.items()
    }
    found = _fingerprints({k: v for k, (_, v) in leaves.items()}, tuple(rows.items()))
    return {name: int(value) for name, value in jax.device_get(found).items()}


def _fingerprint(x: jax.Array, rows: int | None) -> jax.Array:
    if jnp.issubdtype(x.dtype, jnp.bool_):
        x = x.astype(jnp.uint8)
    words = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
    bits = lax.bitcast_convert_type(x, words).astype(jnp.uint32)
    place = jnp.zeros(bits.shape, jnp.uint32)
    for axis in range(bits.ndim):
        place = place * jnp.uint32(0x9E3779B1) + lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    weight = ((place ^ (place >> 15)) * jnp.uint32(0x846CA68B)) | 1
    if rows is not None:
        bits = jnp.where(lax.broadcasted_iota(jnp.uint32, bits.shape, 0) < rows, bits, 0)
    return jnp.sum(bits * weight, dtype=jnp.uint32)


@functools.partial(jax.jit, static_argnums=1)
def _fingerprints(
    leaves: dict[str, jax.Array], rows: tuple[tuple[str, int | None], ...]
) -> dict[str, jax.Array]:
    return {name: _fingerprint(leaves[name], v) for name, v in rows}
