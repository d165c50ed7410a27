"""The counts of many simulated users on the device, and their corrections: for few kinds.

What `counts_of` and `Calibration.shift` compute on the host, for programs in which users act.

Shapes: S users, T events, K kinds, F statistics, V catalogue rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from negflax.calibration import kind_terms
from negflax.calibration.kind_counts import LAST_SEEN, STATISTICS, event_bits, kind_of_items
from negflax.calibration.kind_shift import Calibration, Shift
from negflax.calibration.kind_terms import Scales
from negflax.data import Catalogue


class Counted(NamedTuple):
    """Counts of S users.

    Attributes:
      stats: kind → int32 (S, K, F).
      age_S: int32 events so far.
    """

    stats: dict[str, jax.Array]
    age_S: jax.Array


class KindOnDevice(NamedTuple):
    """The calibration by one kind.

    Attributes:
      kind_V: int32 kind of every row.
      slot_K: 0 to K − 1.
      values: scalars by name.
      scales: as in Scales.
    """

    kind_V: jax.Array
    slot_K: jax.Array
    values: dict[str, jax.Array]
    scales: tuple[jax.Array, ...]

    def shift(self, counted: Counted, kind: str) -> tuple[jax.Array, Shift]:
        """(kind of every row, corrections of all users)."""
        found = kind_terms.features(
            counted.stats[kind].astype(jnp.float32),
            counted.age_S[:, None].astype(jnp.float32),
            Scales(*self.scales),
            jnp,
        )
        bias_SK = kind_terms.shift(self.values, found, jnp)
        return self.kind_V, Shift(self.slot_K, bias_SK.T)


def on_device(calibration: Calibration | None, catalogue: Catalogue) -> dict[str, KindOnDevice]:
    """By kind; empty without a calibration."""
    found = {}
    for kind in calibration.kinds if calibration else ():
        kind_V = kind_of_items(catalogue, kind)
        found[kind] = KindOnDevice(
            jnp.asarray(kind_V, jnp.int32),
            jnp.arange(int(kind_V.max()) + 1, dtype=jnp.int32),
            {name: jnp.float32(x) for name, x in calibration.values[kind].items()},
            (
                jnp.float32(calibration.scales.cap),
                jnp.float32(calibration.scales.prior_seen),
                jnp.float32(calibration.scales.decay),
            ),
        )
    return found


def no_events(calibration: dict[str, KindOnDevice], users: int) -> Counted:
    """Of newcomers."""
    stats = {
        kind: jnp.zeros((users, len(one.slot_K), len(STATISTICS)), jnp.int32)
        for kind, one in calibration.items()
    }
    return Counted(stats, jnp.zeros(users, jnp.int32))


def count(before: Counted, events_ST: Any, calibration: dict[str, KindOnDevice]) -> Counted:
    """The counts after T events more; item 0 is no event.

    Args:
      before: counts so far.
      events_ST: with `item`, `dislike`, `dismissal`, `dwell` and `watch_ratio`, each (S, T).
      calibration: what is counted by.
    """
    item_ST = events_ST.item
    there_ST = item_ST > 0
    number_ST = before.age_S[:, None] + jnp.cumsum(there_ST, axis=1)
    bits = event_bits(
        events_ST.dislike, events_ST.dismissal, events_ST.dwell, events_ST.watch_ratio
    )
    user_S1 = np.arange(len(item_ST))[:, None]
    stats = {}
    for kind, one in calibration.items():
        kind_ST = one.kind_V[item_ST]
        counts_ST = there_ST & (kind_ST > 0)
        added = jnp.stack([counts_ST, *(counts_ST & bit for bit in bits)], axis=-1)
        newest = jnp.stack(
            [jnp.where(counts_ST & bit, number_ST, 0) for bit in (True, bits[0])], axis=-1
        )
        tally = before.stats[kind]
        tally = tally.at[user_S1, kind_ST, :LAST_SEEN].add(added.astype(jnp.int32))
        stats[kind] = tally.at[user_S1, kind_ST, LAST_SEEN:].max(newest.astype(jnp.int32))
    return Counted(stats, number_ST[:, -1].astype(jnp.int32))
