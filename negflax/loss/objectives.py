"""Objectives: r·(−log p) and w·(−log(1 − p)) of every label from one log-sum-exp per state.

With margin m = z_y − lse over the other items, −log p = softplus(−m) and −log(1 − p) = softplus(m):
no value of the logits gives NaN or inf (SPEC section 2). Shapes: N states, L labels a state.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

# The margin of a label against no other item (lse = −inf): a positive then costs 0, a negative
# costs w · EMPTY_MARGIN, and neither has a gradient.
EMPTY_MARGIN = 1000.0

Objective = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def margins(label_logits_NL: jax.Array, label_ids_NL: jax.Array, lse_N: jax.Array) -> jax.Array:
    """Margin m = z_y − log Σ_{j ≠ y} exp z_j of every label, shape (N, L).

    Args:
      label_logits_NL: z_y, no log q correction: a label is present with probability 1.
      label_ids_NL: item ids; −1 marks an absent label. `lse_N` leaves all of them out, so the other
        labels of the state return to the denominator here, in O(N·L²); equal ids count once.
      lse_N: log-sum-exp over the candidates that are no label of the state.
    """
    labels = label_ids_NL.shape[1]
    denominator = jnp.broadcast_to(lse_N[:, None], label_logits_NL.shape)
    if labels > 1:
        earlier = jnp.tril(jnp.ones((labels, labels), bool), -1)
        same = label_ids_NL[:, :, None] == label_ids_NL[:, None, :]
        first_N1L = ((label_ids_NL >= 0) & ~jnp.any(same & earlier, axis=2))[:, None, :]
        others = jnp.where(first_N1L & ~same, label_logits_NL[:, None, :], -jnp.inf)
        denominator = _logsumexp(jnp.concatenate([denominator[:, :, None], others], axis=2))
    empty = jnp.isneginf(denominator)
    return jnp.where(empty, EMPTY_MARGIN, label_logits_NL - jnp.where(empty, 0, denominator))


def _logsumexp(x: jax.Array) -> jax.Array:
    """Over the last axis, with gradient 0 instead of NaN where all are −inf."""
    top = jax.lax.stop_gradient(jnp.max(x, axis=-1))
    none = jnp.isneginf(top)
    total = jnp.sum(jnp.exp(x - jnp.where(none, 0, top)[..., None]), axis=-1)
    return jnp.where(none, -jnp.inf, top + jnp.log(jnp.where(none, 1, total)))


def ntr(margins_NL: jax.Array, r_NL: jax.Array, w_NL: jax.Array) -> jax.Array:
    """Not-to-recommend, eq. 1 of arXiv 2308.12256: −r log p − w log(1 − p)."""
    return r_NL * jax.nn.softplus(-margins_NL) + w_NL * jax.nn.softplus(margins_NL)


def ssm(margins_NL: jax.Array, r_NL: jax.Array, w_NL: jax.Array) -> jax.Array:
    """Sampled softmax on the positives alone; negative labels are ignored."""
    del w_NL
    return r_NL * jax.nn.softplus(-margins_NL)


OBJECTIVES: dict[str, Objective] = {"ntr": ntr, "ssm": ssm}


def get(name: str) -> Objective:
    """The objective of that name.

    Raises:
      ValueError: it is unknown; the message lists the known ones.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"objective {name!r} is unknown; choose from {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]
