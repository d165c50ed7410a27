"""One event, as a service receives it, checked and encoded like the events of a log.

An event is a mapping with `item_id` and any columns of an event log (negflax/data/schema.py), or
that the run's label rules name. What is missing or None is unknown. The encoder reads `dislike`,
`dismissal`, `dwell_ms` (with `duration_ms`), `surface` and `timestamp_ms`; the others are accepted
and say nothing to it.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from negflax.data import Batch, Catalogue, DataError, features
from negflax.data.times import OWN_TIME, other_unit, request_ms, wrong_unit

BITS = ("dislike", "dismissal", "skip", "like", "random_exposure")
NUMBERS = ("dwell_ms", "duration_ms", "surface", "rating", "reward")
WHOLE = ("timestamp_ms", "pos")
FIELDS = ("item_id", "user_id", *BITS, *NUMBERS, *WHOLE)
UNREAD = ("creator_id", "cluster_ids", "propensity", "reason", "split")  # of a log, but not here
# Columns of an encoded event: fields of Batch without their suffix.
CODES = (
    "item_ids",
    "dislike",
    "dwell",
    "watch_ratio",
    "gap",
    "surface",
    "dismissal",
    "creator",
    "cluster",
)
_INTEGER = re.compile(r"(-?(?:0|[1-9]\d{0,18}))(?:\.0+)?")  # a float column of ids says 17.0
LARGEST = 2**53  # integers up to here survive a float, and JSON


class EventError(DataError):
    """An event that cannot be read.

    Attributes:
      field: what is wrong in it.
    """

    def __init__(self, field: str, problem: str):
        """The message names the field."""
        super().__init__(f"event: `{field}`: {problem}")
        self.field = field


def rows_of(catalogue: Catalogue, ids: Sequence[Any]) -> np.ndarray:
    """Catalogue rows int32 of ids, 0 for an unknown one; 17 and "17" are the same id."""
    if not len(ids):
        return np.zeros(0, np.int32)
    if catalogue.item_ids.dtype.kind not in "iu":
        return catalogue.rows(np.array([str(one).strip() for one in ids]))  # as in a log
    numbers = [_as_number(one) for one in ids]
    known = np.array([one is not None for one in numbers])
    return catalogue.rows(np.array([one or 0 for one in numbers], np.int64)) * known


def _as_number(one: Any) -> int | None:
    """The integer that an id is or is written as, as in a log, if it fits into 64 bits."""
    found = _INTEGER.fullmatch(str(one).strip())
    number = int(found[1]) if found else 2**63
    return number if abs(number) < 2**63 else None


def encode_event(
    event: Mapping[str, Any],
    catalogue: Catalogue,
    before_ms: int,
    signals: Collection[str] = (),
) -> tuple[np.ndarray | None, int, int]:
    """An event as the encoder reads it.

    Args:
      event: see the module.
      catalogue: of the model.
      before_ms: time of the user's event before, −1 where that is unknown or there is none.
      signals: further columns that an event may have.

    Returns:
      (codes (len(CODES),) int32, None for an unknown item, which says nothing; catalogue row, 0
      unknown; time in milliseconds, −1 unknown).

    Raises:
      EventError: a field that is unknown or holds what it cannot.
    """
    read = check_event(event, signals)
    row = int(rows_of(catalogue, [event["item_id"]])[0])
    time_ms = -1 if read["timestamp_ms"] is None else int(read["timestamp_ms"])
    if unit := other_unit(time_ms, before_ms):
        raise EventError("timestamp_ms", f"{time_ms} looks like {unit}: give milliseconds")
    if before_ms < 0 and wrong_unit(time_ms):
        said = "events: `timestamp_ms` = %d looks like seconds: give milliseconds since 1970"
        logging.log_first_n(logging.WARNING, said, 1, time_ms)
    told = row
    if not row:
        if not catalogue.bucket_rows:
            return None, 0, time_ms
        item = event["item_id"]
        item = item.strip() if isinstance(item, str) else item  # as in a log
        told = int(catalogue.buckets(np.array([item]))[0])
    duration_ms = _float(read["duration_ms"])
    if math.isnan(duration_ms) and catalogue.duration_V is not None:
        duration_ms = float(catalogue.duration_V[row])
    dwell_1, duration_1 = np.array([_float(read["dwell_ms"])]), np.array([duration_ms])
    times_2 = np.array([before_ms, time_ms])
    codes = (
        told,
        features.bits(np.array([_float(read["dislike"])]))[0],
        features.dwell_codes(dwell_1)[0],
        features.watch_ratio_codes(dwell_1, duration_1)[0],
        features.gap_codes(times_2, np.array([True, False]))[1],
        features.surface_codes(np.array([_float(read["surface"])]))[0],
        features.bits(np.array([_float(read["dismissal"])]))[0],
        catalogue.creator_V[row],
        catalogue.clusters_VC[row, 0],
    )
    return np.array(codes, np.int32), row, time_ms


def check_event(event: Mapping[str, Any], signals: Collection[str] = ()) -> dict[str, Any]:
    """Every field of the event, None where it is missing.

    Raises:
      EventError: see `encode_event`.
    """
    if not isinstance(event, Mapping):
        raise DataError(f"event: a {type(event).__name__}; give a mapping such as a dict")
    for name in event:
        known = name in FIELDS or name in UNREAD or name in signals
        if not known and not str(name).endswith(OWN_TIME):
            near = difflib.get_close_matches(str(name), FIELDS, 1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(FIELDS)}"
            raise EventError(str(name), f"no such field; {hint}")
    item = event.get("item_id")
    if isinstance(item, bool) or not isinstance(item, str | int | np.integer) or item == "":
        raise EventError("item_id", f"{item!r} is not an item id: give an integer or a text")
    for name in BITS:
        value = event.get(name)
        plain = isinstance(value, bool | np.bool_ | int | float | np.number)
        if value is not None and not (plain and value in (0, 1)):
            raise EventError(name, f"{value!r}: give true, false or null")
    if isinstance(event.get("timestamp_ms"), str):
        event = {**event, "timestamp_ms": _milliseconds(event["timestamp_ms"])}
    for name in (*NUMBERS, *WHOLE):
        value = event.get(name)
        if value is None:
            continue
        number = isinstance(value, int | float | np.integer | np.floating)
        if not number or isinstance(value, bool) or not abs(value) <= LARGEST:
            raise EventError(name, f"{value!r}: give a finite number or null")
        if name in WHOLE and value != int(value):
            raise EventError(name, f"{value!r}: give a whole number")
        if name in ("dwell_ms", "duration_ms", "timestamp_ms") and value < 0:
            raise EventError(name, f"{value!r} is negative: give a number of at least 0")
    return {name: event.get(name) for name in FIELDS}


def _milliseconds(text: str) -> int:
    try:
        return request_ms(text)
    except DataError:
        raise EventError(
            "timestamp_ms",
            f"{text!r}: give milliseconds since 1970 or ISO 8601 such as 2024-05-01T12:00:00Z",
        ) from None


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def codes_of(batch: Batch, row: int, events: int) -> np.ndarray:
    """The last `events` steps of a batch's row, (events, len(CODES)) int32."""
    columns = [getattr(batch, f"{name}_BT")[row] for name in CODES]
    return np.stack(columns, axis=1)[len(columns[0]) - events :].astype(np.int32)


def batch_of(codes_nF: np.ndarray, steps: int) -> Batch:
    """A batch of one row whose last steps are the encoded events, the others padding.

    With as many steps as events the row goes on from earlier ones; with more of them it begins with
    the start of the user.
    """
    padding = steps - len(codes_nF)
    codes_1TF = np.pad(codes_nF, ((padding, 0), (0, 0)))[None]
    return batch_like(codes_1TF, (np.arange(steps) < padding)[None], np)


def batch_like(codes_BTF: Any, reset_BT: Any, numpy: Any) -> Batch:
    """A batch without labels of encoded events, by numpy or jax.numpy."""
    none_BTL = numpy.zeros((*reset_BT.shape, 1), numpy.int32)
    return Batch(
        **{f"{name}_BT": codes_BTF[:, :, i] for i, name in enumerate(CODES)},
        reset_BT=reset_BT,
        label_ids_BTL=none_BTL,
        positive_weight_BTL=none_BTL.astype(numpy.float32),
        negative_weight_BTL=none_BTL.astype(numpy.float32),
    )
