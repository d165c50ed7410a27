"""The labels of a state: what goes into the loss, and what an objective sees of them.

With margin m = z_y − lse over the other items, log p = −softplus(−m) and log(1 − p) = −softplus(m):
no value of the logits gives NaN or inf (docs/method.md §2).

An absent label or column has the id −1 and weights of 0. Shapes: N states, L labels a state, E
extra columns of a state.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

# The margin of a label against no other item (lse = −inf), where p is 1 whatever the logits: such a
# label tells nothing, and neither costs anything nor counts (`alone`).
EMPTY_MARGIN = 1000.0


class ExtraColumns(NamedTuple):
    """A few items of each state's own, beside the shared candidates (extra_columns.py).

    Attributes:
      logits_NE: their logits.
      ids_NE: their rows, each at most once a state; −1 where absent.
    """

    logits_NE: jax.Array
    ids_NE: jax.Array


class LabelBatch(NamedTuple):
    """Labels of N states, as they go into the loss.

    Attributes:
      ids_NL: their rows, −1 where absent; left out of the state's candidates.
      logits_NL: z_y.
      r_NL: weights of positive labels, 0 where none.
      w_NL: weights of negative labels, 0 where none.
      extra: the state's own columns, for the objectives that ask for some.
      log_behaviour_NL: log β of the labels, a constant (`reinforce`).
      seen_NM: rows that the state's user has seen, −1 where none; no candidates either.
    """

    ids_NL: jax.Array
    logits_NL: jax.Array
    r_NL: jax.Array
    w_NL: jax.Array
    extra: ExtraColumns | None = None
    log_behaviour_NL: jax.Array | None = None
    seen_NM: jax.Array | None = None

    @property
    def excluded_NX(self) -> jax.Array:
        """(N, L or L + M) rows that are left out of the state's candidates, −1 where absent."""
        if self.seen_NM is None:
            return self.ids_NL
        return jnp.concatenate([self.ids_NL, self.seen_NM], axis=1)


class Labels(NamedTuple):
    """Labels of N states, as an objective sees them.

    Attributes:
      margins_NL: m = z_y − lse over the other items; p = sigmoid(m).
      logits_NL: z_y.
      r_NL: weights of positive labels, 0 where none.
      w_NL: weights of negative labels, 0 where none.
      extra_NLE: logits of the state's extra columns (extra_columns.py), −inf where there is
        none or it is the label itself; None for objectives that ask for none.
      log_behaviour_NL: log β(y|s) of the policy that chose the label, behind a stop_gradient; None
        where the weights carry 1/β already, or nobody asks.
    """

    margins_NL: jax.Array
    logits_NL: jax.Array
    r_NL: jax.Array
    w_NL: jax.Array
    extra_NLE: jax.Array | None = None
    log_behaviour_NL: jax.Array | None = None


def margins(label_logits_NL: jax.Array, label_ids_NL: jax.Array, lse_N: jax.Array) -> jax.Array:
    """Margin m = z_y − log Σ_{j ≠ y} exp z_j of every label, shape (N, L).

    Args:
      label_logits_NL: z_y, no log q correction: a label is present with probability 1.
      label_ids_NL: item ids; −1 marks an absent label. `lse_N` leaves all of them out, so the other
        labels of the state return to the denominator here, in O(N·L²); equal ids count once.
      lse_N: log-sum-exp over the candidates that are no label of the state.

    Raises:
      ValueError: shapes that do not belong together.
    """
    require_shapes(jnp.shape(label_logits_NL), label_ids_NL=label_ids_NL)
    require_shapes(jnp.shape(label_logits_NL)[:1], lse_N=lse_N)
    labels = label_ids_NL.shape[1]
    denominator = jnp.broadcast_to(lse_N[:, None], label_logits_NL.shape)
    if labels > 1:
        same = label_ids_NL[:, :, None] == label_ids_NL[:, None, :]
        first_N1L = first_of_equals(label_ids_NL)[:, None, :]
        others = jnp.where(first_N1L & ~same, label_logits_NL[:, None, :], -jnp.inf)
        denominator = logsumexp(jnp.concatenate([denominator[:, :, None], others], axis=2))
    empty = jnp.isneginf(denominator)
    return jnp.where(empty, EMPTY_MARGIN, label_logits_NL - jnp.where(empty, 0, denominator))


def alone(label_ids_NL: jax.Array, lse_N: jax.Array) -> jax.Array:
    """(N, L) whether a label has no other item beside it: no candidate, no other label.

    Arguments are those of `margins`.
    """
    present_N1L = (label_ids_NL >= 0)[:, None, :]
    other_NL = jnp.any(present_N1L & (label_ids_NL[:, :, None] != label_ids_NL[:, None, :]), axis=2)
    return jnp.isneginf(lse_N)[:, None] & ~other_NL


def require_shapes(shape: tuple[int, ...], **arrays: ArrayLike | None) -> None:
    """Holds arrays, scalars apart, to a shape: (N, 1) beside (N,) would be broadcast to (N, N).

    Raises:
      ValueError: an array has another shape; the message names it.
    """
    for name, array in arrays.items():
        if array is not None and jnp.shape(array) not in (shape, ()):
            raise ValueError(
                f"{name} has the shape {jnp.shape(array)}, not {shape}: arrays are not broadcast"
            )


def first_of_equals(ids_NL: jax.Array) -> jax.Array:
    """(N, L) whether an id is present (not −1) and no earlier one of its state equals it."""
    earlier = jnp.tril(jnp.ones((ids_NL.shape[1],) * 2, bool), -1)
    same = ids_NL[:, :, None] == ids_NL[:, None, :]
    return (ids_NL >= 0) & ~jnp.any(same & earlier, axis=2)


def logsumexp(x: jax.Array) -> jax.Array:
    """Over the last axis, with gradient 0 instead of NaN where all are −inf."""
    top = jax.lax.stop_gradient(jnp.max(x, axis=-1, initial=-jnp.inf))
    none = jnp.isneginf(top)
    total = jnp.sum(jnp.exp(x - jnp.where(none, 0, top)[..., None]), axis=-1)
    return jnp.where(none, -jnp.inf, top + jnp.log(jnp.where(none, 1, total)))
