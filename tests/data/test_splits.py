"""Temporal, per-user and given splits (docs/method.md §5.1)."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.config import ConfigError, DataConfig
from negflax.data import DataError
from negflax.data.splits import (
    effective_times,
    leave_one_out,
    nondecreasing,
    split_by_column,
    split_by_time,
    split_moments,
    user_fraction,
)


def by_time(time, user=None, **config):
    user = np.zeros(len(time), int) if user is None else np.array(user)
    events = pa.table({"timestamp_ms": pa.array(time, pa.int64())})
    effective = effective_times(events, user)
    parts = np.array_split(effective, 3)  # the moments are those of all parts together
    moments = split_moments(lambda: iter(parts), DataConfig(**config), "log")
    split = split_by_time(effective, moments)
    assert split.dtype == np.uint8
    return split.tolist(), moments


def test_fractions_are_quantiles_over_all_users():
    split, moments = by_time([9, 1, 2, 3, 4, 5, 6, 7, 8, 0], user=range(10), valid_fraction=0.2)
    assert split == [2, 0, 0, 0, 0, 0, 0, 1, 1, 0]
    assert moments == {"valid_from_ms": 7, "test_from_ms": 9}


def test_equal_times_stay_together():
    assert by_time([0, 1, 5, 5, 5, 5], valid_fraction=0.2, test_fraction=0.2)[0] == [
        0,
        0,
        2,
        2,
        2,
        2,
    ]


def test_moments_with_a_zone():
    split, _ = by_time(
        [0, 3_599_999, 3_600_000, 7_200_000],
        valid_from="1970-01-01T01:00:00+00:00",
        test_from="1970-01-01T10:00:00+08:00",
    )
    assert split == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"test_from": "2022-05-01"}, "zone"),
        ({"valid_from": "May 1"}, "valid_from = 'May 1'.*ISO 8601"),
        ({"valid_from": "2022-05-01T00:00:00+08:00"}, "after the start of the test"),
        ({"valid_fraction": 0.5, "test_fraction": 0.5}, "below 1"),
    ],
)
def test_bad_settings(config, words):
    with pytest.raises(ConfigError, match=words):
        by_time([1, 2, 3], **config)


def test_unknown_times_take_the_next_known_time_of_their_user():
    time = [None, 1, None, 9, None, None, 2, None]
    user = [0, 0, 0, 0, 0, 1, 1, 1]
    moments = {
        "valid_from": "1970-01-01T00:00:00.005+00:00",
        "test_from": "1970-01-01T00:00:00.008+00:00",
    }
    assert by_time(time, user, **moments)[0] == [0, 0, 2, 2, 0, 0, 0, 0]


@pytest.mark.parametrize("time", [[None, None], None])
def test_no_times_at_all(time):
    events = pa.table({"pos": [0, 1]})
    if time is not None:
        events = events.append_column("timestamp_ms", pa.array(time, pa.int64()))
    effective = effective_times(events, np.zeros(2, int))
    with pytest.raises(DataError, match=r"log: column `timestamp_ms`.*leave_one_out"):
        split_moments(lambda: iter([effective]), DataConfig(), "log")


def test_column():
    events = pa.table({"split": ["test", "train", "valid", "train"]})
    assert split_by_column(events, "log").tolist() == [2, 0, 1, 0]
    assert split_by_column(events.slice(0, 1), "log").tolist() == [2]
    with pytest.raises(DataError, match="log: column `split` is missing"):
        split_by_column(pa.table({"pos": [1]}), "log")


def test_leave_one_out_spares_short_users():
    assert leave_one_out(np.array([0, 0, 0, 0, 1, 1, 2, 3, 3, 3])).tolist() == [
        0,
        0,
        1,
        2,
        0,
        0,
        0,
        0,
        1,
        2,
    ]


def by_user(lengths, valid=0.1, test=0.2):
    user = np.repeat(np.arange(len(lengths)), lengths)
    return user_fraction(user, DataConfig(valid_fraction=valid, test_fraction=test))


def test_user_fractions_are_rounded_down():
    split = by_user([10, 4, 0, 5, 29])
    assert split.dtype == np.uint8
    assert split[:10].tolist() == [0] * 7 + [1] + [2] * 2
    assert split[10:14].tolist() == [0] * 4  # too few events for a test event
    assert split[14:19].tolist() == [0] * 4 + [2]  # and here for a validation event
    assert np.bincount(split[19:]).tolist() == [22, 2, 5]
    assert by_user([]).tolist() == []


def test_user_fractions_are_decimal_numbers():
    assert by_user([10], valid=0.3, test=0.6).tolist() == [0] + [1] * 3 + [2] * 6
    assert np.bincount(by_user([1000], valid=0.29, test=0.57)).tolist() == [140, 290, 570]


def test_user_fractions_must_leave_training_events():
    with pytest.raises(ConfigError, match="valid_fraction .* below 1"):
        by_user([10], valid=0.5, test=0.5)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 40), max_size=8),
    st.sampled_from([(0.1, 0.2), (0.0, 0.3), (0.3, 0.1)]),
)
def test_user_fraction_equals_a_plain_loop(lengths, fractions):
    expected = []
    for n in lengths:
        valid, test = (int(n * round(10 * fraction) // 10) for fraction in fractions)
        expected += [0] * (n - valid - test) + [1] * valid + [2] * test
    assert by_user(lengths, *fractions).tolist() == expected


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=20))
def test_nondecreasing_equals_a_plain_loop(rows):
    rows.sort(key=lambda row: row[0])
    user = np.array([u for u, _ in rows], int)
    split = np.array([s for _, s in rows], np.uint8)
    expected = [max(s for v, s in rows[: i + 1] if v == u) for i, (u, _) in enumerate(rows)]
    raised, moved = nondecreasing(split, user)
    assert raised.tolist() == expected
    assert moved == sum(a != b for a, b in zip(expected, split, strict=True))
