"""One reader for every time column: `timestamp_ms` and each signal's own `<signal>_at_ms`.

Integers, floats and decimals are milliseconds since 1970. Arrow timestamps and dates of any unit
and zone, and ISO 8601 text, say themselves what they are; without a zone they are UTC.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from negflax.data import cells
from negflax.data.columns import is_text

OWN_TIME = "_at_ms"  # behind the name of a signal: when that feedback was given
REMEDY = "write milliseconds since 1970 or ISO 8601 such as 2024-05-01T12:00:00Z, null if unknown"
_ISO = r"^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d(?::?\d\d)?)?)?$"
_ZONE = r":\d\d(?:\.\d+)?(?:Z|[+-]\d\d(?::?\d\d)?)$"
_STORED = pa.timestamp("us")
# Newest time as milliseconds → what it is instead: 10^11 ms is March 1973, 10^14 ms the year 5138.
EARLY_MS, _MICROSECONDS, _NANOSECONDS = 10**11, 10**14, 10**17


def is_time(name: str) -> bool:
    """Whether a column of this name holds times."""
    return name == "timestamp_ms" or name.endswith(OWN_TIME)


def milliseconds(column: pa.Array, place: cells.Place) -> pa.Array:
    """A time column as int64 milliseconds since 1970, null where unknown.

    Args:
      column: without dictionary encoding.
      place: for messages.

    Raises:
      DataError: a value is no time, is not finite, or lies before 1970.
    """
    kind = column.type
    if is_text(kind):
        column = _from_text(pc.utf8_trim_whitespace(column), place)
    elif pa.types.is_date(kind):
        column = pc.cast(column, pa.timestamp("ms"))
    elif not pa.types.is_timestamp(kind) and not cells.numeric(kind):
        raise place.error(None, f"values of type {kind} are not times", REMEDY)
    elif pa.types.is_float32(kind):
        row = cells.first(pc.greater(pc.abs(column), float(2**24)))
        if row is not None:
            problem = f"{column[row].as_py():.0f} as a float32 is exact to minutes at best"
            raise place.error(row, problem, "write times as int64 or float64")
    return cells.number(column, pa.int64(), place, True)


def wrong_unit(newest: int) -> str:
    """What times look like whose newest is this many milliseconds; empty where that is plausible.

    Args:
      newest: the largest value of the column; -1: none is known.
    """
    if newest >= _NANOSECONDS:
        return "nanoseconds"
    if newest >= _MICROSECONDS:
        return "microseconds"
    return "seconds" if 0 <= newest < EARLY_MS else ""


def other_unit(time_ms: int, known_ms: int) -> str:
    """What one time looks like beside another that is known; empty where it may be right.

    Args:
      time_ms: the time, -1 unknown.
      known_ms: such as that of the event before, -1 unknown. Where it lies before 1973 itself, the
        times of the log may be counted from a start of their own.
    """
    unit = wrong_unit(time_ms)
    return unit if unit != "seconds" or known_ms >= EARLY_MS else ""


def request_ms(at: Any, known_ms: int = -1) -> int:
    """The time of a request as milliseconds since 1970.

    Args:
      at: a datetime, ISO 8601 text or milliseconds; without a zone it is UTC.
      known_ms: time of an event, -1 unknown: a request in seconds stands out beside it.

    Raises:
      DataError: it is none of these, lies before 1970, or is in another unit.
    """
    place = cells.Place("the request", "at")
    if isinstance(at, np.datetime64):
        at = at.astype("datetime64[us]")  # Arrow has no hours
    try:
        column = pa.array([None if isinstance(at, bool | np.bool_) else at])
    except (pa.ArrowException, OverflowError) as error:
        raise place.error(None, f"{at!r} is no time", REMEDY) from error
    value = None if pa.types.is_null(column.type) else milliseconds(column, place)[0].as_py()
    if value is None:
        raise place.error(None, f"{at!r} is no time", REMEDY)
    if unit := other_unit(value, known_ms):
        raise place.error(None, f"{at!r} looks like {unit}", REMEDY)
    return value


def _from_text(column: pa.Array, place: cells.Place) -> pa.Array:
    """Text of numbers as it is, of ISO 8601 as timestamps."""
    column = pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
    iso = pc.match_substring_regex(column, _ISO)
    if not pc.any(iso, min_count=0).as_py():
        row = cells.first(pc.invert(pc.match_substring_regex(column, cells.NUMBER)))
        if row is None:
            return column
        raise place.error(row, f"text {column[row].as_py()!r} in a number column", REMEDY)
    row = cells.first(pc.invert(iso))
    if row is not None:
        raise place.error(row, f"text {column[row].as_py()!r} among ISO 8601 times", REMEDY)
    column = pc.replace_substring_regex(column, r"(\.\d{6})\d+", r"\1")
    zoned = pc.match_substring_regex(column, _ZONE)
    none = pa.scalar(None, column.type)
    try:
        with_zone = pc.cast(pc.if_else(zoned, column, none), pa.timestamp("us", "UTC"))
        without = pc.cast(pc.if_else(zoned, none, column), _STORED)
    except pa.ArrowInvalid as error:
        raise place.error(None, f"the text is not a time ({error})", REMEDY) from error
    return pc.coalesce(pc.cast(with_zone, _STORED), without)
