"""Which event trains, validates or tests (docs/method.md §5.1): codes 0 train, 1 valid, 2 test."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa

from negflax.config import ConfigError, DataConfig
from negflax.data.cells import DataError
from negflax.data.columns import factorize, integers
from negflax.data.schema import SPLITS

NEVER = np.iinfo(np.int64).max
BINS = 2**18
NOTHING_TRAINS = (
    "config.data.valid_fraction + config.data.test_fraction leave no event to train on: "
    "their sum must be below 1"
)


def split_by_column(events: pa.Table, name: str) -> np.ndarray:
    """split_E uint8 from the source's own column `split`.

    Raises:
      DataError: there is no such column.
    """
    if "split" not in events.column_names:
        raise DataError(
            f"{name}: column `split` is missing, and config.data.split is `column`: add it with "
            f"the values {', '.join(SPLITS)} or set config.data.split = 'temporal'"
        )
    code_E, found = factorize(events["split"])
    return np.array([SPLITS.index(text) for text in found], np.uint8)[code_E]


def effective_times(events: pa.Table, user_E: np.ndarray) -> np.ndarray:
    """The time, int64 milliseconds, by which the temporal split judges each event.

    An event of unknown time comes before the user's next event of known time, so it takes that
    one's time; with none after it, it has none (-1) and trains.

    Args:
      events: validated events, in the order of their users.
      user_E: user numbers, nondecreasing.
    """
    num_events = len(user_E)
    if "timestamp_ms" not in events.column_names:
        return np.full(num_events, -1, np.int64)
    time_E = integers(events["timestamp_ms"], -1)
    if time_E.min(initial=0) >= 0:
        return time_E
    known = np.where(time_E >= 0, np.arange(num_events), num_events)
    next_E = np.minimum.accumulate(known[::-1])[::-1]
    next_E = np.minimum(next_E, num_events - 1)
    usable = (time_E[next_E] >= 0) & (user_E[next_E] == user_E)
    return np.where(usable, time_E[next_E], -1)


def split_moments(
    read: Callable[[], Iterable[np.ndarray]], config: DataConfig, name: str
) -> dict[str, int]:
    """Moments of the global temporal split, the same for every user, given or by fraction.

    Args:
      read: yields the effective times in any number of parts, the same at each call.
      config: moments or fractions.
      name: source, for messages.

    Returns:
      `valid_from_ms` and `test_from_ms`.

    Raises:
      DataError: no event has a time.
      ConfigError: a moment without a zone, or validation after the test.
    """
    if not any(np.any(time >= 0) for time in read()):
        raise DataError(
            f"{name}: column `timestamp_ms` has no value, and config.data.split is `temporal`: "
            "add event times or set config.data.split = 'user_fraction', 'leave_one_out' or "
            "'column'"
        )
    shares = (config.valid_fraction + config.test_fraction, config.test_fraction)
    valid_from = _moment(config, "valid_from", read, shares[0])
    test_from = _moment(config, "test_from", read, shares[1])
    if valid_from > test_from:
        raise ConfigError(
            "config.data.valid_from is after the start of the test period; the order is training, "
            "validation, test"
        )
    return {"valid_from_ms": valid_from, "test_from_ms": test_from}


def split_by_time(effective_E: np.ndarray, moments: dict[str, int]) -> np.ndarray:
    """split_E uint8 by effective times and the moments of `split_moments`."""
    valid_E = effective_E >= moments["valid_from_ms"]
    return valid_E.astype(np.uint8) + (effective_E >= moments["test_from_ms"])


def leave_one_out(user_E: np.ndarray) -> np.ndarray:
    """split_E uint8: a user's last event tests, the one before it validates.

    As in the published tables (SASRec and its successors), users with fewer than 3 events
    only train.

    Args:
      user_E: user numbers, nondecreasing.
    """
    counts = np.bincount(user_E) if len(user_E) else np.zeros(0, np.int64)
    from_end_E = np.cumsum(counts)[user_E] - 1 - np.arange(len(user_E))
    split_E = np.maximum(2 - from_end_E, 0)
    return np.where(counts[user_E] < 3, 0, split_E).astype(np.uint8)


def user_fraction(user_E: np.ndarray, config: DataConfig) -> np.ndarray:
    """split_E uint8: the last events of each user test, the ones before them validate.

    Of a user's n events ⌊n · test_fraction⌋ test and ⌊n · valid_fraction⌋ validate; the others, the
    oldest, train. Rounding down keeps users with too few events for a share, fewer than 5 at a
    fraction of .2, out of that period. Parameters may see events of other users that are later
    than a test event, as under `leave_one_out`; a user's own order is kept.

    Args:
      user_E: user numbers, nondecreasing, events in time order within a user.
      config: the two fractions.

    Raises:
      ConfigError: the fractions leave nothing to train on.
    """
    if config.valid_fraction + config.test_fraction >= 1:
        raise ConfigError(NOTHING_TRAINS)
    counts = np.bincount(user_E) if len(user_E) else np.zeros(0, np.int64)
    # Rounded first: .3 of 10 events is 3, though .1 + .2 makes .30000000000000004.
    tested, validated = (
        np.floor(np.round(counts * fraction, 6)).astype(np.int64)
        for fraction in (config.test_fraction, config.valid_fraction)
    )
    from_end_E = np.cumsum(counts)[user_E] - 1 - np.arange(len(user_E))
    late_E = (from_end_E < (tested + validated)[user_E]).astype(np.uint8)
    return late_E + (from_end_E < tested[user_E])


def nondecreasing(split_E: np.ndarray, user_E: np.ndarray) -> tuple[np.ndarray, int]:
    """Moves an event that follows a later period's event of its user into that period.

    Training on it would let a user's test period leak into the parameters.

    Returns:
      (split_E, how many events moved).
    """
    base_E = 3 * user_E.astype(np.int64)
    raised_E = (np.maximum.accumulate(split_E + base_E) - base_E).astype(np.uint8)
    return raised_E, int(np.sum(raised_E != split_E))


def _moment(
    config: DataConfig, key: str, read: Callable[[], Iterable[np.ndarray]], share: float
) -> int:
    text = getattr(config, key)
    if text:
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError as error:
            raise ConfigError(
                f"config.data.{key} = {text!r}: write ISO 8601, as in 2022-05-01T00:00:00+08:00"
            ) from error
        if moment.tzinfo is None:
            raise ConfigError(f"config.data.{key} = {text!r} has no zone: append +00:00 or yours")
        return round(moment.timestamp() * 1000)
    if share >= 1:
        raise ConfigError(NOTHING_TRAINS)
    return _quantile(read, 1 - share)


def _quantile(read: Callable[[], Iterable[np.ndarray]], share: float) -> int:
    """The value at place int(n · share) of all the sorted times ≥ 0, NEVER where that is n.

    Exact in bounded memory: the interval that holds it is cut into BINS, the bin that holds it
    into BINS again, until one value is left.
    """
    low, high, num = NEVER, 0, 0
    for time in read():
        known = time[time >= 0]
        num += len(known)
        low, high = min(low, int(known.min(initial=low))), max(high, int(known.max(initial=0)) + 1)
    place = int(num * share)
    if place >= num:
        return NEVER
    while high - low > 1:
        width = -(-(high - low) // BINS)
        count = np.zeros(BINS, np.int64)
        for time in read():
            inside = time[(time >= low) & (time < high)]
            count += np.bincount((inside - low) // width, minlength=BINS)
        bin_ = int(np.searchsorted(np.cumsum(count), place, side="right"))
        place -= int(count[:bin_].sum())
        low, high = low + bin_ * width, min(high, low + (bin_ + 1) * width)
    return low
