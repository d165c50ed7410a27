"""Labels as Newton's method reads them: on the device, in whole chunks, by width.

A label is as wide as the number of kinds that its user has met. Labels of about one width form a
part, so that a few users with long histories do not make the arrays of all others as wide.

Shapes: N labels of a part, M components beside the rest, U users.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from negflax.calibration import kind_terms
from negflax.calibration.kind_terms import Scales
from negflax.calibration.label_facts import LabelFacts
from negflax.config import ConfigError
from negflax.loss import objectives

# Labels whose derivatives are computed at a time, so that gradients stay in the cache; fewer where
# they are wider than this.
CHUNK, WIDE = 512, 256


class Weights(NamedTuple):
    """What the objective of the run weighs its labels by.

    Attributes:
      objective: its name.
      r: factor of the positive labels.
      w: factor of the negative labels.
      scalars: further ones (negflax/loss/objectives.py).
    """

    objective: str
    r: float
    w: float
    scalars: objectives.Scalars


class Part(NamedTuple):
    """Labels of about one width, filled up to whole chunks with labels of weight 0.

    Attributes:
      logit_N: score of the label.
      r_N: weight as a positive, with the run's factor.
      w_N: weight as a negative, likewise.
      place_N: component of the label's own kind, −1 without history.
      lse_NM: log-sum-exp of each component, −inf where there is none.
      rest_N: the same of all that has no correction.
      features: what b is a function of, by name, (N, M).
    """

    logit_N: Any
    r_N: Any
    w_N: Any
    place_N: Any
    lse_NM: Any
    rest_N: Any
    features: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Data:
    """All labels, part by part; arrays over labels are in this order.

    Attributes:
      parts: on the device.
      user_N: user of each label, on the host, without what fills the chunks.
      sizes: labels of each part, likewise.
    """

    parts: tuple[Part, ...]
    user_N: np.ndarray
    sizes: tuple[int, ...]

    @property
    def labels(self) -> int:
        """Number of labels."""
        return len(self.user_N)

    def joined(self, of_parts: Sequence[Any]) -> np.ndarray:
        """Float64 values of all labels, from those of each part and what fills it."""
        cut = (np.asarray(x)[:n] for x, n in zip(of_parts, self.sizes, strict=True))
        return np.concatenate([np.asarray(x, np.float64) for x in cut])


def data_of(facts: Sequence[LabelFacts], scales: Scales, weights: Weights) -> Data:
    """One row for each label; the state's other labels are components of their own.

    Args:
      facts: of labelled states, by width.
      scales: of the features.
      weights: of the objective.

    Raises:
      ConfigError: no label has another item beside it.
    """
    wholes = [_rows_of(one, scales, weights) for one in facts]
    wholes = [(user_N, part) for user_N, part in wholes if len(user_N)]
    if not wholes:
        raise ConfigError(
            "no label has another item to be compared with, as users have seen all others "
            "(config.loss.exclude_seen): there is nothing to calibrate on"
        )
    users = [user_N for user_N, _ in wholes]
    parts = tuple(_filled(part) for _, part in wholes)
    return Data(parts, np.concatenate(users), tuple(map(len, users)))


def _rows_of(facts: LabelFacts, scales: Scales, weights: Weights) -> tuple[np.ndarray, Part]:
    """(user of each label, the labels of these states), on the host."""
    count = facts.ids_NL.shape[1]
    found = kind_terms.features(
        facts.stats_NMF.astype(np.float32), facts.age_N[:, None].astype(np.float32), scales, np
    )
    rows = [_rows_of_label(facts, found, weights, label) for label in range(count)]
    return jax.tree.map(lambda *x: np.concatenate(x), *rows)


def _rows_of_label(
    facts: LabelFacts, found: dict[str, np.ndarray], weights: Weights, label: int
) -> tuple[np.ndarray, Part]:
    """The same for the states' labels of one place."""
    n, width = facts.lse_NM.shape
    lse, columns = [facts.lse_NM], [np.arange(width)[None].repeat(n, 0)]
    earlier = [label]  # an item that a state has twice counts once
    for other in range(facts.ids_NL.shape[1]):
        if other == label:
            continue
        id_N = facts.ids_NL[:, other]
        same_N = np.any([id_N == facts.ids_NL[:, one] for one in earlier], axis=0)
        lse.append(np.where((id_N >= 0) & ~same_N, facts.logits_NL[:, other], -np.inf)[:, None])
        columns.append(facts.place_NL[:, other][:, None])
        earlier.append(other)
    column_NM = np.concatenate(columns, axis=1)
    features = {
        name: np.where(column_NM >= 0, np.take_along_axis(x, np.maximum(column_NM, 0), axis=1), 0)
        for name, x in found.items()
    }
    part = Part(
        facts.logits_NL[:, label],
        weights.r * facts.r_NL[:, label],
        weights.w * facts.w_NL[:, label],
        facts.place_NL[:, label],
        np.concatenate(lse, axis=1),
        facts.rest_N,
        features,
    )
    # Where a label has no other item beside it, p is 1 whatever the scores.
    compared_N = (np.c_[part.lse_NM, part.rest_N] > -np.inf).any(axis=1)
    there_N = (facts.ids_NL[:, label] >= 0) & compared_N
    return jax.tree.map(lambda x: x[there_N], (facts.user_N, part))


def chunk_size(labels: int, width: int) -> int:
    """Labels whose derivatives are computed at a time."""
    return min(labels, max(1, CHUNK * WIDE // max(WIDE, width)))


def _filled(part: Part) -> Part:
    """Whole chunks, on the device."""
    n, width = part.lse_NM.shape
    more = -n % chunk_size(n, width)

    def fill(x: np.ndarray, value: float = 0) -> jax.Array:
        rows = ((0, more),) + ((0, 0),) * (x.ndim - 1)
        dtype = jnp.int32 if x.dtype.kind in "iu" else jnp.float32
        return jnp.asarray(np.pad(x, rows, constant_values=value), dtype)

    return jax.tree.map(fill, part)._replace(place_N=fill(part.place_N, -1))
