"""Event log → per-user arrays, with labels, splits and vocabulary: what every later room reads."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa

from negflax.config import Config
from negflax.data import features
from negflax.data.catalogue import Catalogue, build_catalogue
from negflax.data.cells import DataError
from negflax.data.columns import alike, factorize, floats, integers
from negflax.data.labels import label_weights
from negflax.data.schema import SPLITS, validate, validate_items
from negflax.data.sources import RawData
from negflax.data.splits import leave_one_out, nondecreasing, split_by_column, split_by_time


@dataclasses.dataclass(frozen=True, eq=False)
class Sequences:
    """Events of U users, user by user in time order; user u has [offsets_U1[u], offsets_U1[u+1]).

    Attributes:
      catalogue: the items.
      user_ids: (U,) original ids, sorted.
      offsets_U1: (U+1,) int64.
      item_E: int32 catalogue rows, all ≥ 1.
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


def build_sequences(raw: RawData, config: Config, catalogue: Catalogue | None = None) -> Sequences:
    """Validates, labels, splits and encodes a data set (SPEC sections 4 and 5).

    The vocabulary is the items with at least data.min_item_events events in the training period;
    events on other items are dropped and counted. Only `leave_one_out` counts over the whole log,
    as the published tables that it exists for do.

    Args:
      raw: events and items.
      config: its sections data and labels.
      catalogue: a vocabulary to use instead, such as a checkpoint's.

    Raises:
      DataError: unusable events, or an empty period; validation may be empty where
        data.valid_fraction is 0, and under `leave_one_out`.
      ConfigError: a rule or moment that cannot be used.
    """
    events, repairs = validate(raw.events, raw.name)
    items = None
    if raw.items is not None:
        items = validate_items(raw.items, f"{raw.name} items")
        events, items = alike([events, items], ("item_id",))
    user_E, user_ids = factorize(events["user_id"])
    positive_E, negative_E = label_weights(events, config.labels, items)

    published = config.data.split == "leave_one_out"
    moments: dict[str, int] = {}
    # Published leave-one-out protocols filter items by their count over the whole log and split
    # what is left; here that is all events in the training period until the filter is through.
    split_E = np.zeros(len(user_E), np.uint8)
    if config.data.split == "column":
        split_E = split_by_column(events, raw.name)
    elif not published:
        split_E, moments = split_by_time(events, user_E, config.data, raw.name)
    split_E, repairs["events_moved_to_a_later_split"] = nondecreasing(split_E, user_E)

    code_E, item_ids = factorize(events["item_id"])
    is_new = catalogue is None
    if catalogue is None:
        count_I = np.bincount(code_E[split_E == 0], minlength=len(item_ids))
        known_ids = item_ids[count_I >= config.data.min_item_events]
        catalogue = build_catalogue(known_ids, events, items)
    item_E = catalogue.rows(item_ids)[code_E]
    keep = item_E > 0
    unknown = {
        split: _count(~keep & (split_E == i), positive_E, negative_E)
        for i, split in enumerate(SPLITS)
    }

    events = events.filter(pa.array(keep))
    item_E, user_E, split_E = item_E[keep], user_E[keep], split_E[keep]
    positive_E, negative_E = positive_E[keep], negative_E[keep]
    if published:
        split_E = leave_one_out(user_E)
    _require_every_split(split_E, config, raw.name)
    if is_new:
        count_V = np.bincount(item_E[split_E == 0], minlength=catalogue.num_rows)
        catalogue = dataclasses.replace(catalogue, train_count_V=count_V)

    count_U = np.bincount(user_E, minlength=len(user_ids))
    kept = {split: _count(split_E == i, positive_E, negative_E) for i, split in enumerate(SPLITS)}
    encoded = encode_features(events, item_E, user_E, catalogue)
    return Sequences(
        catalogue=catalogue,
        user_ids=user_ids[count_U > 0],
        offsets_U1=np.append(0, np.cumsum(count_U[count_U > 0])),
        item_E=item_E,
        positive_weight_E=positive_E,
        negative_weight_E=negative_E,
        split_E=split_E,
        report={
            "source": raw.name,
            "users": int(np.sum(count_U > 0)),
            "items": len(catalogue.item_ids),
            "events": len(item_E),
            "splits": kept,
            "unknown_items": unknown,
            "repairs": repairs,
            **moments,
        },
        **encoded,
    )


def _count(mask_E: np.ndarray, positive_E: np.ndarray, negative_E: np.ndarray) -> dict[str, int]:
    return {
        "events": int(np.sum(mask_E)),
        "positives": int(np.sum(mask_E & (positive_E > 0))),
        "negatives": int(np.sum(mask_E & (negative_E > 0))),
    }


def _require_every_split(split_E: np.ndarray, config: Config, name: str) -> None:
    count = dict(zip(SPLITS, np.bincount(split_E, minlength=3), strict=True))
    if config.data.split == "leave_one_out" or config.data.valid_fraction == 0:
        count.pop("valid")
    for split, n in count.items():
        if n == 0:
            raise DataError(
                f"{name}: no event on a known item is in the split `{split}` "
                f"(config.data.split = {config.data.split!r}): move config.data.valid_from and "
                "test_from or the fractions, or lower config.data.min_item_events"
            )


def encode_features(
    events: pa.Table, item_E: np.ndarray, user_E: np.ndarray, catalogue: Catalogue
) -> dict[str, np.ndarray]:
    """The feature columns of Sequences, by field name, of events on known items.

    Args:
      events: validated events, in the order of their users.
      item_E: catalogue rows, all ≥ 1.
      user_E: user numbers, nondecreasing.
      catalogue: gives the durations that the events lack.
    """

    def column(name: str) -> np.ndarray:
        return floats(events[name]) if name in events.column_names else np.full(len(item_E), np.nan)

    duration_E = column("duration_ms")
    if catalogue.duration_V is not None:
        duration_E = np.where(np.isnan(duration_E), catalogue.duration_V[item_E], duration_E)
    timed = "timestamp_ms" in events.column_names
    time_E = integers(events["timestamp_ms"], -1) if timed else np.full(len(item_E), -1, np.int64)
    first_E = np.diff(user_E, prepend=-1) != 0
    dwell_E = column("dwell_ms")
    return {
        "dislike_E": features.bits(column("dislike")),
        "dwell_E": features.dwell_codes(dwell_E),
        "watch_ratio_E": features.watch_ratio_codes(dwell_E, duration_E),
        "gap_E": features.gap_codes(time_E, first_E),
        "surface_E": features.surface_codes(column("surface")),
        "time_E": time_E,
    }
