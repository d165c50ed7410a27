"""Personal baselines that train nothing, on the device: terms added to the scores of items.

The formulas are those of negflax/evaluate/baselines/personal_scores.py.

Shapes: S users, T events, N recently disliked items, V catalogue rows, D width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from negflax.calibration.kind_shift import Shift
from negflax.data import Sequences
from negflax.evaluate.baselines.filters import DISLIKED
from negflax.evaluate.baselines.personal_scores import (
    RECENT,
    Adjustment,
    largest_cosine,
    unit_rows,
)
from negflax.evaluate.baselines.popularity import rate_term
from negflax.train.restore import Trained


class PersonalTerms(NamedTuple):
    """What an `Adjustment` adds besides the calibration.

    Attributes:
      rate_V: float32, β · log of each item's positive rate; None: not added.
      unit_VD: float32 item vectors of length 1; None: disliked items are no examples.
      example_beta: weight of the largest cosine, which is subtracted.
    """

    rate_V: jax.Array | None
    unit_VD: jax.Array | None
    example_beta: jax.Array

    def shift(self, disliked_SN: jax.Array) -> tuple[jax.Array, Shift]:
        """(number of every row, corrections (V, S) of all users): each item is a kind of its own.

        Args:
          disliked_SN: rows of the items that the users disliked last, 0 where there are fewer.
        """
        bias_VS: Any = 0.0
        if self.rate_V is not None:
            bias_VS = jnp.broadcast_to(self.rate_V[:, None], (len(self.rate_V), len(disliked_SN)))
        if self.unit_VD is not None:
            near_SV = largest_cosine(self.unit_VD, disliked_SN, self.unit_VD, jnp)
            bias_VS = bias_VS - self.example_beta * near_SV.T
        row_V = jnp.arange(len(bias_VS), dtype=jnp.int32)
        return row_V, Shift(row_V, bias_VS)


def personal_terms(
    trained: Trained, sequences: Sequences, adjustment: Adjustment
) -> PersonalTerms | None:
    """Returns the terms of an adjustment of a checkpoint's scores; None: there are none.

    Args:
      trained: the checkpoint.
      sequences: log whose labelled events, of the run's splits, give the rates.
      adjustment: what is added.
    """
    if not (adjustment.rate_beta or adjustment.example_beta):
        return None
    rate_V, unit_VD = None, None
    if adjustment.rate_beta:
        splits = trained.config.train.splits
        rate_V = jnp.asarray(rate_term(sequences, splits, adjustment.rate_beta))
    if adjustment.example_beta:
        unit_VD = jnp.asarray(unit_rows(trained))
    return PersonalTerms(rate_V, unit_VD, jnp.float32(adjustment.example_beta))


def nothing_disliked(users: int) -> jax.Array:
    """Of newcomers, (S, N)."""
    return jnp.zeros((users, RECENT), jnp.int32)


def add_dislikes(disliked_SN: jax.Array, item_ST: jax.Array, dislike_ST: jax.Array) -> jax.Array:
    """Returns the last N disliked items after T events more, the newest one last.

    Args:
      disliked_SN: those before, 0 where there are fewer.
      item_ST: rows of the events, 0 for none.
      dislike_ST: codes of `Sequences.dislike_E`.
    """
    new_ST = jnp.where(dislike_ST == DISLIKED, item_ST, 0)
    all_SM = jnp.concatenate([disliked_SN, new_ST], axis=1)
    order_SM = jnp.argsort(all_SM > 0, axis=1, stable=True)  # empty places first
    return jnp.take_along_axis(all_SM, order_SM, axis=1)[:, -disliked_SN.shape[1] :]
