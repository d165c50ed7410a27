"""What a past event tells the encoder beside its item: small integer codes, 0 = unknown.

The paper (section 3) feeds a dislike bit and the dwell time of every past event. The edges are
fixed, so a code means the same in every data set, checkpoint and server; they are not learned.
"""

from __future__ import annotations

import numpy as np

# Bucket 1 holds exactly 0 ms (shown, not played); then half octaves from 0.5 s to about 17 min.
DWELL_EDGES_MS = np.concatenate([[1.0], 500.0 * 2.0 ** (np.arange(23) / 2)])
# Dwell over duration; at 1 the item was watched to its end, above 2 it was watched again.
WATCH_RATIO_EDGES = np.array(
    [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0]
)
# Time since the user's previous event: octaves from 1 s to about 3 weeks.
GAP_EDGES_S = 2.0 ** np.arange(22)
HOUR_MS, DAYS_TO_MONDAY = 3_600_000, 3  # 1 January 1970 was a Thursday
SURFACES = 30  # surfaces 0..29 have codes of their own, any other shares the last one

NUM_VALUES = {
    "dislike": 3,
    "dismissal": 3,
    "dwell": len(DWELL_EDGES_MS) + 2,
    "watch_ratio": len(WATCH_RATIO_EDGES) + 2,
    "gap": len(GAP_EDGES_S) + 2,
    "surface": SURFACES + 2,
}
REQUEST_VALUES = {"gap": len(GAP_EDGES_S) + 2, "hour": 25, "weekday": 8}  # columns of their codes


def bits(value_E: np.ndarray) -> np.ndarray:
    """0, 1 or NaN as codes uint8: 1 no, 2 yes, 0 unknown."""
    return np.where(np.isnan(value_E), 0, 1 + (value_E == 1)).astype(np.uint8)


def buckets(value_E: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Values as codes uint8: 1 + the number of edges at or below the value, 0 where it is NaN."""
    code_E = 1 + np.searchsorted(edges, value_E, side="right")
    return np.where(np.isnan(value_E), 0, code_E).astype(np.uint8)


def dwell_codes(dwell_ms_E: np.ndarray) -> np.ndarray:
    """Codes uint8 of dwell times in milliseconds, NaN = unknown."""
    return buckets(dwell_ms_E, DWELL_EDGES_MS)


def watch_ratio_codes(dwell_ms_E: np.ndarray, duration_ms_E: np.ndarray) -> np.ndarray:
    """Codes uint8 of dwell / duration, unknown where either is NaN or the duration is 0."""
    known = duration_ms_E > 0
    ratio_E = np.divide(dwell_ms_E, duration_ms_E, out=np.full(len(known), np.nan), where=known)
    return buckets(ratio_E, WATCH_RATIO_EDGES)


def gap_codes(time_ms_E: np.ndarray, first_E: np.ndarray) -> np.ndarray:
    """Codes uint8 of the time since the previous event.

    Args:
      time_ms_E: milliseconds in the user's order, -1 = unknown.
      first_E: whether the event is its user's first, which has no gap.

    Returns:
      The codes; 0 where one of the times is unknown or the two run backwards.
    """
    gap_s_E = np.diff(time_ms_E, prepend=0) / 1000.0
    known = (time_ms_E >= 0) & (np.append(-1, time_ms_E[:-1]) >= 0) & ~first_E & (gap_s_E >= 0)
    return buckets(np.where(known, gap_s_E, np.nan), GAP_EDGES_S)


def request_codes(time_ms: np.ndarray, before_ms: np.ndarray) -> np.ndarray:
    """Codes int32 (…, 3) of requests: gap, hour 1..24 and weekday 1..7 from Monday, in UTC.

    Args:
      time_ms: int64 milliseconds of the requests, -1 = unknown.
      before_ms: of the user's last event before each, -1 = unknown or none.

    Returns:
      The codes; 0 unknown, and of the gap also where the two times run backwards.
    """
    time_ms, before_ms = np.asarray(time_ms, np.int64), np.asarray(before_ms, np.int64)
    codes = np.zeros((*time_ms.shape, len(REQUEST_VALUES)), np.int32)
    known, gap_ms = time_ms >= 0, time_ms - before_ms
    edge = np.searchsorted(GAP_EDGES_S * 1000, gap_ms, side="right")
    codes[..., 0] = np.where(known & (before_ms >= 0) & (gap_ms >= 0), 1 + edge, 0)
    hours = (time_ms // HOUR_MS).astype(np.int32)  # one division of 64 bits, the others of 32
    day, hour = np.divmod(hours, np.int32(24))
    codes[..., 1] = np.where(known, 1 + hour, 0)
    codes[..., 2] = np.where(known, 1 + (day + DAYS_TO_MONDAY) % 7, 0)
    return codes


def surface_codes(surface_E: np.ndarray) -> np.ndarray:
    """Codes uint8 of surface numbers, NaN = unknown."""
    own = (surface_E >= 0) & (surface_E < SURFACES)
    code_E = np.where(own, surface_E, SURFACES) + 1
    return np.where(np.isnan(surface_E), 0, code_E).astype(np.uint8)
