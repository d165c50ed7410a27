"""Every time column through one reader: number types, units of Arrow, ISO 8601, dates."""

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest

from negflax.data import DataError, cells, times, validate

MS = 1_714_564_800_123  # 2024-05-01T12:00:00.123Z
DAY = 1_714_521_600_000
PLACE = cells.Place("log.csv", "returned_at_ms", 10)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([MS, None]), [MS, None]),
        (pa.array([MS], pa.uint64()), [MS]),
        (pa.array([float(MS)]), [MS]),
        (pa.array([decimal.Decimal(f"{MS}.00")]), [MS]),
        (pa.array([str(MS), f" {MS}.0 ", ""]), [MS, MS, None]),
        (pa.array([MS // 1000], pa.timestamp("s")), [MS - 123]),
        (pa.array([MS], pa.timestamp("ms", "Europe/Berlin")), [MS]),
        (pa.array([MS * 1000 + 7], pa.timestamp("us")), [MS]),
        (pa.array([MS * 10**6 + 7], pa.timestamp("ns", "UTC")), [MS]),
        (pa.array([datetime.date(2024, 5, 1)]), [DAY]),
        (pa.array([DAY], pa.date64()), [DAY]),
        (pa.array(["2024-05-01T12:00:00.123Z", "2024-05-01 12:00:00.123"]), [MS, MS]),
        (pa.array(["2024-05-01T14:00:00.1234567+02:00", "2024-05-01T14:00:00.123+0200"]), [MS] * 2),
        (pa.array(["2024-05-01", None, "2024-05-01T00:00"]), [DAY, None, DAY]),
        (pa.array([None, None]), [None, None]),
    ],
)
def test_milliseconds(column, expected):
    assert times.milliseconds(column, PLACE).to_pylist() == expected


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array([MS, -1]), "row 11: -1 is negative"),
        (pa.array(["1", "soon"]), "row 11: text 'soon' in a number column"),
        (pa.array(["2024-05-01", "17"]), "row 11: text '17' among ISO 8601 times"),
        (pa.array(["2024-05-77"]), "the text is not a time"),
        (pa.array([datetime.time(12)]), "are not times"),
        (pa.array([float("nan")]), "is not finite"),
    ],
)
def test_values_that_are_not_times(column, words):
    with pytest.raises(DataError, match=f"log.csv: column `returned_at_ms`.*{words}"):
        times.milliseconds(column, PLACE)


@pytest.mark.parametrize(
    ("newest", "unit"),
    [
        (MS, ""),
        (MS // 1000, "seconds"),
        (MS * 1000, "microseconds"),
        (MS * 10**6, "nanoseconds"),
        (-1, ""),
    ],
)
def test_wrong_unit(newest, unit):
    assert times.wrong_unit(newest) == unit


@pytest.mark.parametrize(
    ("at", "known", "words"),
    [
        (MS // 1000, MS, "looks like seconds"),
        (datetime.datetime(1970, 1, 20), MS, "looks like seconds"),
        (MS * 1000, -1, "looks like microseconds"),
        (2**62, -1, "looks like nanoseconds"),
        (True, -1, "True is no time"),
        ("soon", -1, "text 'soon'"),
        (None, -1, "None is no time"),
    ],
)
def test_a_request_at_no_time_or_in_another_unit(at, known, words):
    with pytest.raises(DataError, match=f"the request: column `at`.*{words}"):
        times.request_ms(at, known)


def test_a_request_at_a_time():
    assert times.request_ms(np.datetime64("2024-05-01T12")) == MS - 123
    assert times.request_ms("2024-05-01T12:00:00.123Z", MS) == MS
    assert times.request_ms(60_000, 50_000) == 60_000  # a log with a clock of its own


def test_a_signals_own_time_is_read_like_the_events(log):
    stamps = [None, "1970-01-01T00:00:09Z", "1970-01-01T00:00:08Z"]
    table, _ = validate(log(returned=[0, 1, 1], returned_at_ms=stamps), "log.csv")
    assert table["returned_at_ms"].to_pylist() == [None, 9000, 8000]
