"""The log-sum-exp's arguments, checked, with every mask of a candidate in its bias.

Shapes: N states, S candidates, L ids that a state leaves out.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


def fold_masks(
    states_ND: jax.Array,
    candidates_SD: jax.Array,
    bias_S: ArrayLike | None,
    candidate_ids_S: ArrayLike | None,
    exclude_ids_NL: ArrayLike | None,
    valid_S: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Checks the arguments and folds `valid_S` into the bias: (bias_S, ids_S, exclude_NL)."""
    n, s = states_ND.shape[0], candidates_SD.shape[0]
    if (
        states_ND.ndim != 2
        or candidates_SD.ndim != 2
        or states_ND.shape[1] != candidates_SD.shape[1]
    ):
        raise ValueError(
            f"states {states_ND.shape} and candidates {candidates_SD.shape}: give (N, D) and (S, D)"
        )
    kind = accumulator(states_ND.dtype)
    bias_S = jnp.zeros(s, kind) if bias_S is None else jnp.asarray(bias_S, kind)
    if valid_S is not None:
        bias_S = jnp.where(jnp.asarray(valid_S), bias_S, -jnp.inf)
    if exclude_ids_NL is None:
        ids_S, exclude_NL = jnp.zeros(s, jnp.int32), jnp.full((n, 1), -1, jnp.int32)
    elif candidate_ids_S is None:
        raise ValueError("exclude_ids_NL needs candidate_ids_S to compare with")
    else:
        ids_S = _whole_ids(candidate_ids_S, "candidate_ids_S")
        exclude_NL = _whole_ids(exclude_ids_NL, "exclude_ids_NL")
    for name, array, shape in (
        ("bias_S", bias_S, (s,)),
        ("candidate_ids_S", ids_S, (s,)),
        ("exclude_ids_NL", exclude_NL, (n, exclude_NL.shape[-1])),
    ):
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    if not (
        jnp.issubdtype(ids_S.dtype, jnp.integer) and jnp.issubdtype(exclude_NL.dtype, jnp.integer)
    ):
        raise ValueError(
            "candidate_ids_S and exclude_ids_NL must be integers: ids lose bits as floats"
        )
    return bias_S, ids_S, exclude_NL


def _whole_ids(ids: ArrayLike, name: str) -> jax.Array:
    """The ids as an array of JAX, which without jax_enable_x64 drops the high bits of 64.

    Raises:
      ValueError: an id would lose bits.
    """
    if isinstance(ids, jax.Array):
        return ids
    given, kept = np.asarray(ids), jnp.asarray(ids)  # under jit `kept` has no value as yet
    if given.dtype.kind in "iu" and not np.array_equal(given, given.astype(kept.dtype)):
        raise ValueError(
            f"{name} holds ids beyond {kept.dtype}: give row numbers, or set jax_enable_x64"
        )
    return kept


def accumulator(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype of sums, margins and log-sum-exps: float32, or float64 for float64 operands."""
    return jnp.promote_types(dtype, jnp.float32)
