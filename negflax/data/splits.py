"""Which event trains, validates or tests (SPEC section 5.1): codes 0 train, 1 valid, 2 test."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa

from negflax.config import ConfigError, DataConfig
from negflax.data.cells import DataError
from negflax.data.columns import factorize, integers
from negflax.data.schema import SPLITS

NEVER = np.iinfo(np.int64).max


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


def split_by_time(
    events: pa.Table, user_E: np.ndarray, config: DataConfig, name: str
) -> tuple[np.ndarray, dict[str, int]]:
    """Global temporal split: the same two moments for every user.

    An event of unknown time comes before the user's next event of known time, so it takes that
    one's time; with none after it, it trains.

    Args:
      events: validated events, in the order of their users.
      user_E: user numbers, nondecreasing.
      config: moments or fractions.
      name: source, for messages.

    Returns:
      (split_E uint8, the moments in ms: `valid_from_ms`, `test_from_ms`).

    Raises:
      DataError: no event has a time.
      ConfigError: a moment without a zone, or validation after the test.
    """
    column = "timestamp_ms"
    time_E = integers(events[column], -1) if column in events.column_names else np.array([-1])
    if not np.any(time_E >= 0):
        raise DataError(
            f"{name}: column `timestamp_ms` has no value, and config.data.split is `temporal`: "
            "add event times or set config.data.split = 'leave_one_out' or 'column'"
        )
    num_events = len(time_E)
    known = np.where(time_E >= 0, np.arange(num_events), num_events)
    next_E = np.minimum.accumulate(known[::-1])[::-1]
    next_E = np.minimum(next_E, num_events - 1)
    usable = (time_E[next_E] >= 0) & (user_E[next_E] == user_E)
    effective_E = np.where(usable, time_E[next_E], -1)

    times = np.sort(effective_E[usable])
    shares = (config.valid_fraction + config.test_fraction, config.test_fraction)
    valid_from = _moment(config, "valid_from", times, shares[0])
    test_from = _moment(config, "test_from", times, shares[1])
    if valid_from > test_from:
        raise ConfigError(
            "config.data.valid_from is after the start of the test period; the order is training, "
            "validation, test"
        )
    split_E = (effective_E >= valid_from).astype(np.uint8) + (effective_E >= test_from)
    return split_E, {"valid_from_ms": valid_from, "test_from_ms": test_from}


def leave_one_out(user_E: np.ndarray) -> np.ndarray:
    """split_E uint8: a user's last event tests, the one before it validates.

    As in the published tables (SASRec and its kin), users with fewer than 3 events only train.

    Args:
      user_E: user numbers, nondecreasing.
    """
    counts = np.bincount(user_E) if len(user_E) else np.zeros(0, np.int64)
    from_end_E = np.cumsum(counts)[user_E] - 1 - np.arange(len(user_E))
    split_E = np.maximum(2 - from_end_E, 0)
    return np.where(counts[user_E] < 3, 0, split_E).astype(np.uint8)


def nondecreasing(split_E: np.ndarray, user_E: np.ndarray) -> tuple[np.ndarray, int]:
    """Moves an event that follows a later period's event of its user into that period.

    Training on it would let a user's test period leak into the parameters.

    Returns:
      (split_E, how many events moved).
    """
    base_E = 3 * user_E.astype(np.int64)
    raised_E = (np.maximum.accumulate(split_E + base_E) - base_E).astype(np.uint8)
    return raised_E, int(np.sum(raised_E != split_E))


def _moment(config: DataConfig, key: str, times: np.ndarray, share: float) -> int:
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
        raise ConfigError(
            "config.data.valid_fraction + config.data.test_fraction leave no event to train on: "
            "their sum must be below 1"
        )
    place = int(len(times) * (1 - share))
    return int(times[place]) if place < len(times) else NEVER
