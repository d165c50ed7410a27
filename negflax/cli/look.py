"""A short look at a log before it trains: units of its times, a split that suits it, its labels."""

from __future__ import annotations

import datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from negflax.config import DataConfig, LabelConfig
from negflax.data import DataError
from negflax.data.cells import NUMBER
from negflax.data.columns import factorize, flat, integers, is_number, is_text
from negflax.data.event_arrays import ValidLog
from negflax.data.labelling import match, weights_of
from negflax.data.parts import Parts
from negflax.data.rule_matches import match_report, require_matches, require_positives
from negflax.data.splits import effective_times, split_by_time, split_moments
from negflax.data.times import wrong_unit

UNITS = {"seconds": "s", "microseconds": "us", "nanoseconds": "ns"}
OLDEST_MS = 10**11  # March 1973, as milliseconds: older than any log
FEW_QUERIES = 50  # users in the test period: below, a temporal split says little
FEW_LABELS = 100  # of a sign


class Split(NamedTuple):
    """A value of config.data.split and why it suits."""

    name: str
    why: str


def unit_of(column: pa.ChunkedArray, place: str) -> str:
    """The unit of a column of times that are numbers: s, ms, us or ns; ms of any other times.

    Raises:
      DataError: the numbers are no times since 1970, or of more than one unit.
    """
    column = flat(column)
    kind = column.type
    if is_text(kind):
        text = column.drop_null()[:1].to_pylist()
        if not text or not pc.match_substring_regex(pa.array(text), NUMBER)[0].as_py():
            return "ms"
        numbers = pc.match_substring_regex(column, NUMBER)  # what else there is, reading names
        column = pc.cast(pc.utf8_trim_whitespace(column.filter(numbers)), pa.float64())
    elif not is_number(kind):
        return "ms"
    if not pa.types.is_integer(column.type):
        column = pc.cast(column, pa.float64())
        column = column.filter(pc.is_finite(column))
    span = pc.min_max(column).as_py()
    if span["max"] is None:
        return "ms"
    unit = UNITS.get(wrong_unit(int(span["max"])), "ms")
    scale = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}[unit]
    if span["min"] * scale < OLDEST_MS:
        raise DataError(
            f"{place}: {span['min']} to {span['max']} are not times since 1970 in one unit: write "
            "milliseconds, or map the column as the order within a user, --columns=pos=NAME"
        )
    return unit


def choose_split(events: pa.Table) -> Split:
    """A split under which most test queries have a history.

    Args:
      events: validated, in the order of their users.
    """
    if "split" in events.column_names:
        return Split("column", "the file has a column `split`")
    user_E = factorize(events["user_id"])[0]
    if "timestamp_ms" in events.column_names:
        time_E = effective_times(events, user_E)
        if np.any(time_E >= 0):
            moments = split_moments(lambda: [time_E], DataConfig(), "the log")
            split_E = split_by_time(time_E, moments)
            tested, before = np.unique(user_E[split_E == 2]), np.unique(user_E[split_E < 2])
            known = int(np.isin(tested, before).sum())
            share = f"{known:,} of the {len(tested):,} users of the last tenth have earlier events"
            if known >= max(FEW_QUERIES, len(tested) / 2):
                return Split("temporal", f"one moment for all; {share}")
            return _by_user(user_E, f"only {share}")
    return _by_user(user_E, "the log has an order, but no times")


def _by_user(user_E: np.ndarray, why: str) -> Split:
    count_U = np.bincount(user_E)
    if np.sum(count_U >= 10) >= 0.5 * np.sum(count_U >= 3):
        return Split("user_fraction", f"the last tenth of each user's events; {why}")
    return Split("leave_one_out", f"each user's last event, as most have fewer than 10; {why}")


def summary(events: pa.Table, items: pa.Table | None, labels: LabelConfig) -> list[str]:
    """Lines on sizes and labels, with warnings; validated events.

    Raises:
      ConfigError: a rule that cannot be used.
      DataError: no rule of a sign matches an event; it names the values that there are. Or each
        event that a positive rule matches is a negative.
    """
    matches = match(events, labels, items)
    log = ValidLog("the log", Parts([lambda: events]), items, {})
    counts = {("rule", *rule): num for rule, num in matches.counts.items()}
    require_matches(match_report(counts, log, items, labels) | {"source": log.name})
    positive_E, negative_E = weights_of(matches, events, labels)
    positive, negative = int(np.sum(positive_E > 0)), int(np.sum(negative_E > 0))
    require_positives(positive, log.name)
    num, users = events.num_rows, len(factorize(events["user_id"])[1])
    found = [
        f"{num:,} events of {users:,} users on {len(factorize(events['item_id'])[1]):,} items"
        f"{_period(events)}",
        f"{positive:,} ({positive / num:.1%}) positive, {negative:,} ({negative / num:.1%}) "
        f"negative, {num - positive - negative:,} neither",
    ]
    for count, sign, rules in (
        (positive, "positive", labels.positive),
        (negative, "negative", labels.negative),
    ):
        if rules and count < FEW_LABELS:
            found.append(f"warning: only {count:,} events are {sign}: intervals will be wide")
    if num < 5 * users:
        found.append(
            f"warning: {num / users:.1f} events per user are few to learn personal tastes from"
        )
    return found


def _period(events: pa.Table) -> str:
    if "timestamp_ms" not in events.column_names:
        return ""
    time_E = integers(events["timestamp_ms"], -1)
    known = time_E[time_E >= 0]
    if not len(known):
        return ""
    utc = datetime.timezone.utc  # noqa: UP017
    first, last = (
        datetime.datetime.fromtimestamp(int(t) / 1000, utc).strftime("%Y-%m-%d")
        for t in (known.min(), known.max())
    )
    return f", {first} to {last}"
