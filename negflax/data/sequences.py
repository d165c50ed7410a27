"""A data set as arrays, user by user: events with their labels, splits and features."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import Any

import numpy as np

from negflax.config import Config
from negflax.data.catalogue import Catalogue
from negflax.data.event_arrays import ValidLog, prepare
from negflax.data.parts import Parts
from negflax.data.rules import asked
from negflax.data.schema import validate
from negflax.data.sources import RawData


@dataclasses.dataclass(frozen=True, eq=False)
class Sequences:
    """Events of U users, user by user in time order; user u has [offsets_U1[u], offsets_U1[u+1]).

    Attributes:
      catalogue: the items.
      user_ids: (U,) original ids, sorted.
      offsets_U1: (U+1,) int64.
      item_E: int32 catalogue rows; all ≥ 1 but for 0 where `bucket_E` has a row.
      dislike_E: uint8, 0 unknown, 1 no, 2 yes.
      dwell_E: uint8 bucket of dwell_ms, 0 unknown (features.py has the edges).
      watch_ratio_E: uint8 bucket of dwell / duration, 0 unknown.
      gap_E: uint8 bucket of the time since the user's previous event here, 0 unknown or first.
      surface_E: uint8, surface + 1, 0 unknown.
      time_E: int64 milliseconds, -1 unknown.
      positive_weight_E: float32 r ≥ 0.
      negative_weight_E: float32 w ≥ 0; r and w are never both above 0.
      split_E: uint8, 0 train, 1 valid, 2 test; nondecreasing within a user.
      report: counts of what was read, kept, repaired and dropped; plain ints, ready for JSON.
      dismissal_E: uint8, as dislike_E; None: unknown.
      random_E: uint8 whether the item was shown at random, 0 unknown, 1 no, 2 yes; None: unknown.
      bucket_E: int32 row that the encoder reads for an event on an item outside the vocabulary,
        which has no label; 0 elsewhere; None: there is no such event.
      unknown_U: int64 number of each user's events that are not here, as the catalogue does not
        know their items; None: not counted.
    """

    catalogue: Catalogue
    user_ids: np.ndarray
    offsets_U1: np.ndarray
    item_E: np.ndarray
    dislike_E: np.ndarray
    dwell_E: np.ndarray
    watch_ratio_E: np.ndarray
    gap_E: np.ndarray
    surface_E: np.ndarray
    time_E: np.ndarray
    positive_weight_E: np.ndarray
    negative_weight_E: np.ndarray
    split_E: np.ndarray
    report: dict[str, Any]
    dismissal_E: np.ndarray | None = None
    random_E: np.ndarray | None = None
    bucket_E: np.ndarray | None = None
    unknown_U: np.ndarray | None = None


def build_sequences(raw: RawData, config: Config, catalogue: Catalogue | None = None) -> Sequences:
    """Validates, labels, splits and encodes a data set (docs/method.md §4 and 5).

    The vocabulary is the items with at least data.min_item_events events in the training period;
    events on other items are counted, and dropped or, without their labels, put into
    data.hash_buckets. Only `leave_one_out` counts over the whole log, as the published tables that
    it exists for do.

    Args:
      raw: events and items.
      config: its sections data and labels.
      catalogue: a vocabulary to use instead, such as a checkpoint's.

    Raises:
      DataError: unusable events, or an empty period; validation may be empty where
        data.valid_fraction is 0, and under `leave_one_out`.
      ConfigError: a rule or moment that cannot be used.
    """
    events, repairs = validate(raw.events, raw.name, asked(config.labels))
    kept: dict[str, list[np.ndarray]] = defaultdict(list)

    def keep(columns: dict[str, np.ndarray]) -> None:
        for column, values in columns.items():
            kept[column].append(values)

    log = ValidLog(raw.name, Parts([lambda: events]), raw.items, repairs)
    rest = prepare(log, config, catalogue, keep)
    return Sequences(**{column: kept[column][0] for column in kept}, **rest)
