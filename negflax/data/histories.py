"""Event log → histories to serve from: no labels, no split, and no user is left out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from negflax.config import LabelConfig
from negflax.data.catalogue import Catalogue
from negflax.data.columns import factorize
from negflax.data.data_report import time_report
from negflax.data.event_arrays import encode_features
from negflax.data.rules import asked
from negflax.data.schema import validate
from negflax.data.sequences import Sequences
from negflax.data.times import EARLY_MS

NO_RULES = LabelConfig(positive=(), negative=())


def build_histories(
    table: pa.Table, catalogue: Catalogue, name: str, labels: LabelConfig = NO_RULES
) -> Sequences:
    """Encodes an event log to serve from: every event is history, none is a label.

    Users whose items are all unknown stay, with an empty history. Ids may be text in one place and
    numbers in the other, as a CSV without a text id in it is read as numbers.

    Args:
      table: an event log (schema.py); columns that only labels need may be missing.
      catalogue: a checkpoint's vocabulary.
      name: file or source, for the messages.
      labels: the run's. Text that its rules ask for is kept: a view and a purchase of one item at
        one time are two events here too.

    Returns:
      Sequences of weight 0, all in the split `train`.

    Raises:
      DataError: unusable events.
    """
    events, repairs = validate(table, name, asked(labels))
    user_E, user_ids = factorize(events["user_id"])
    code_E, item_ids = factorize(events["item_id"])
    item_E = catalogue.rows(item_ids)[code_E]
    known = item_E > 0
    keep = known | (catalogue.bucket_rows > 0)
    bucket = {}
    if catalogue.bucket_rows:
        bucket["bucket_E"] = np.where(known, 0, catalogue.buckets(item_ids)[code_E])
    unknown_U = np.bincount(user_E[~keep], minlength=len(user_ids))
    events, item_E, user_E = events.filter(pa.array(keep)), item_E[keep], user_E[keep]
    count_U = np.bincount(user_E, minlength=len(user_ids))
    features = encode_features(events, item_E, user_E, catalogue, labels)
    time_E = features["time_E"]
    early = int(np.count_nonzero((time_E >= 0) & (time_E < EARLY_MS)))
    return Sequences(
        catalogue=catalogue,
        user_ids=user_ids,
        offsets_U1=np.append(0, np.cumsum(count_U)),
        item_E=item_E,
        positive_weight_E=np.zeros(len(item_E), np.float32),
        negative_weight_E=np.zeros(len(item_E), np.float32),
        split_E=np.zeros(len(item_E), np.uint8),
        report={
            "source": name,
            "users": len(user_ids),
            "users_without_history": int(np.sum(count_U == 0)),
            "events": len(item_E),
            "events_on_unknown_items": int(np.sum(~known)),
            "repairs": repairs,
            **time_report(name, int(time_E.max(initial=-1)), early),
        },
        unknown_U=unknown_U,
        **features,
        **bucket,
    )


def history_events(
    sequences: Sequences, user_R: np.ndarray, end_R: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The history of every query, flat: (query number, absolute event index) of each event.

    Args:
      sequences: events of all users.
      user_R: user of each query.
      end_R: absolute event index at which its history ends, exclusive.
    """
    start_R = sequences.offsets_U1[user_R]
    length_R = end_R - start_R
    query_H = np.repeat(np.arange(len(user_R)), length_R)
    within_H = np.arange(len(query_H)) - np.repeat(np.cumsum(length_R) - length_R, length_R)
    return query_H, start_R[query_H] + within_H


def history_items(
    sequences: Sequences, user_R: np.ndarray, end_R: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The items in the history of every query, flat: (query number, catalogue row) of each."""
    query_H, event_H = history_events(sequences, user_R, end_R)
    item_H = sequences.item_E[event_H]
    known_H = item_H > 0  # others are in no list
    return query_H[known_H], item_H[known_H]


def distinct_history_items(
    sequences: Sequences, user_R: np.ndarray, end_R: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`history_items`, each item of a query once, in ascending order."""
    query_H, item_H = history_items(sequences, user_R, end_R)
    width = sequences.catalogue.num_rows
    return np.divmod(np.unique(query_H * width + item_H), width)


def padded_history_items(sequences: Sequences, user_R: np.ndarray, end_R: np.ndarray) -> np.ndarray:
    """The distinct items of each history, int32 (R, H) filled up with 0; H is a power of two."""
    query_H, item_H = distinct_history_items(sequences, user_R, end_R)
    place_H = np.arange(len(query_H)) - np.searchsorted(query_H, query_H)
    longest = int(place_H.max(initial=0)) + 1
    items_RH = np.zeros((len(user_R), 1 << (longest - 1).bit_length()), np.int32)
    items_RH[query_H, place_H] = item_H
    return items_RH
