"""The calibration of a run: its scalars, and the correction of any user's scores by them.

Shapes: R users, P pairs of a user and a kind of their history, K kinds, G slots, V catalogue rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from negflax.calibration import kind_terms
from negflax.calibration.kind_counts import KindCounts, counts_of, kind_of_items
from negflax.calibration.kind_terms import Scales
from negflax.data import Catalogue, Sequences

FEW_KINDS = 4_096  # up to here every kind has a slot; beyond, those of the users at hand
LEAST_SLOTS = 64


class Shift(NamedTuple):
    """Corrections of R users' scores by one kind: of item v for user r, bias_GR[slot_K[kind_v], r].

    Attributes:
      slot_K: int32 slot of each kind; slot 0 is 0 for everyone.
      bias_GR: float32.
    """

    slot_K: Any
    bias_GR: Any


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Scalars by kind of item.

    Attributes:
      model: fingerprint of the parameters that it belongs to.
      scales: constants of the features.
      values: `cluster` or `creator` → scalars by name.
      report: how it was fitted, for people.
    """

    model: str
    scales: Scales
    values: Mapping[str, Mapping[str, float]]
    report: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds that have a correction."""
        return tuple(self.values)

    def bias(self, kind: str, counts: KindCounts) -> np.ndarray:
        """(P,) float32 corrections of the counted kinds."""
        age_P = counts.events_R[counts.user_P].astype(np.float64)
        found = kind_terms.features(counts.stats_PF.astype(np.float64), age_P, self.scales, np)
        return kind_terms.shift(self.values[kind], found, np).astype(np.float32)

    def dense(self, kind: str, counts: KindCounts, kinds: int) -> np.ndarray:
        """(R, K) float32 corrections of all kinds, for few of them."""
        bias_RK = np.zeros((len(counts.events_R), kinds), np.float32)
        bias_RK[counts.user_P, counts.kind_P] = self.bias(kind, counts)
        return bias_RK

    def shift(self, kind: str, counts: KindCounts, kinds: int) -> Shift:
        """The corrections of R users, by slots whose number is one of few."""
        bias_P, numbers = self.bias(kind, counts), np.arange(kinds)
        if kinds > FEW_KINDS:
            numbers = np.append(0, np.unique(counts.kind_P))
        slot_K = np.zeros(kinds, np.int32)
        slot_K[numbers] = np.arange(len(numbers))
        slots = max(LEAST_SLOTS, 1 << (len(numbers) - 1).bit_length())
        bias_GR = np.zeros((slots, len(counts.events_R)), np.float32)
        bias_GR[slot_K[counts.kind_P], counts.user_P] = bias_P
        return Shift(slot_K, bias_GR)


def history_shifts(
    calibration: Calibration, sequences: Sequences, user_R: np.ndarray, end_R: np.ndarray
) -> list[tuple[np.ndarray, Shift]]:
    """(kind of every row (V,), Shift) of each kind, by the whole histories of the queries."""
    found = []
    for kind in calibration.kinds:
        kind_V = kind_of_items(sequences.catalogue, kind)
        counts = counts_of(sequences, user_R, end_R, kind_V)
        found.append(
            (kind_V, calibration.shift(kind, counts, num_kinds(sequences.catalogue, kind)))
        )
    return found


def num_kinds(catalogue: Catalogue, kind: str) -> int:
    """K of a kind, with 0."""
    return int(kind_of_items(catalogue, kind).max()) + 1


def added(shifts: list[tuple[np.ndarray, Shift]], rows: slice | np.ndarray) -> np.ndarray | float:
    """(R, rows) corrections of some items, on the host."""
    total: Any = np.float32(0)
    for kind_V, shift in shifts:
        total = total + shift.bias_GR[shift.slot_K[kind_V[rows]]].T
    return total
