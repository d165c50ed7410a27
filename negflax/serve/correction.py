"""What the calibration of a run adds to the scores of users, ready for the device.

Shapes: R users, V rows of the output table, padded.
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from typing import Any

import jax
import numpy as np

from negflax.calibration import Shift
from negflax.calibration.kind_counts import (
    KindCounts,
    UserCounts,
    counts_of,
    joined,
    kind_of_items,
)
from negflax.calibration.kind_shift import num_kinds
from negflax.data import Sequences
from negflax.mesh import split
from negflax.serve.list_rules import UserHistory
from negflax.serve.topk import Shifts
from negflax.train.restore import Trained


class Correction:
    """The calibration of one checkpoint, if it has one, with the kind of every row."""

    def __init__(self, trained: Trained, tables: dict[str, Any]):
        """The checkpoint, and its tables as serving reads them."""
        self._calibration, self._kinds = trained.calibration, {}
        catalogue = trained.catalogue
        length = len(tables[trained.model.output_table]["rows"])
        for kind in trained.calibration.kinds if trained.calibration else ():
            kind_V = kind_of_items(catalogue, kind).astype(np.int32)
            padded_V = np.pad(kind_V, (0, length - len(kind_V)))
            on_device = jax.make_array_from_callback(
                padded_V.shape, split(trained.mesh), lambda place, x=padded_V: x[place]
            )
            self._kinds[kind] = on_device, num_kinds(catalogue, kind)

    def of_users(self, users: Several[UserHistory], length: int) -> Shifts:
        """The corrections of users, and of nobody up to `length` of them."""
        counts = [user.counts or UserCounts() for user in users]
        return self.of_counts({kind: joined(counts, kind, length) for kind in self._kinds})

    def of_histories(self, sequences: Sequences, user_R: np.ndarray, end_R: np.ndarray) -> Shifts:
        """The corrections of queries by their whole histories."""
        catalogue = sequences.catalogue
        return self.of_counts(
            {
                kind: counts_of(sequences, user_R, end_R, kind_of_items(catalogue, kind))
                for kind in self._kinds
            }
        )

    def of_counts(self, counts: dict[str, KindCounts]) -> Shifts:
        """The corrections by counts of each kind."""
        found = []
        for kind, (kind_V, kinds) in self._kinds.items():
            slot_K, bias_GR = self._calibration.shift(kind, counts[kind], kinds)
            found.append((kind_V, Shift(slot_K, bias_GR)))
        return tuple(found)
