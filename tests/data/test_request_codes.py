import dataclasses
import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.config import BatchConfig, LabelConfig
from negflax.data import DataError, RawData, StreamBatches, build_sequences, history_batch
from negflax.data.batches import DELAY_MS
from negflax.data.features import GAP_EDGES_S, request_codes
from negflax.data.times import request_ms

UTC = datetime.UTC


def reference(time_ms, before_ms):
    """Codes of one request by the standard library."""
    if time_ms < 0:
        return [0, 0, 0]
    moment = datetime.datetime.fromtimestamp(time_ms / 1000, UTC)
    gap = 0
    if 0 <= before_ms <= time_ms:
        gap = 1 + sum((time_ms - before_ms) / 1000 >= edge for edge in GAP_EDGES_S)
    return [gap, 1 + moment.hour, moment.isoweekday()]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 2**42), st.integers(-1, 2**42)), max_size=20))
def test_codes_against_the_standard_library(pairs):
    times = np.array(pairs, np.int64).reshape(-1, 2)
    expected = [reference(*map(int, pair)) for pair in times]
    np.testing.assert_array_equal(request_codes(*times.T), np.reshape(expected, (-1, 3)))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(0, 10**6))
def test_the_time_of_the_next_event_is_read_and_nothing_else_of_it(
    make_config, random_log, seed, pick
):
    table = random_log(seed)
    s = build_sequences(RawData(table, None, "log"), make_config())
    user = pick % len(s.user_ids)
    begin, end = s.offsets_U1[user : user + 2]
    place = begin + pick % (end - begin)
    asked = np.array([place]), np.array([user])
    found = history_batch(s, *asked, 6).request_BTR[0, -1]
    before = s.time_E[place - 1] if place > begin else -1
    assert found.tolist() == reference(int(s.time_E[place]), int(before))
    at = np.array([7 * 86_400_000])
    found = history_batch(s, *asked, 6, at).request_BTR[0, -1]
    assert found.tolist() == reference(int(at[0]), int(before))
    # the event itself, and all after it, may be anything
    other = s.item_E.copy()
    other[place:] = 1 + np.random.default_rng(seed).integers(0, 5, len(other) - place)
    changed = {name: getattr(s, name).copy() for name in ("dislike_E", "dwell_E", "gap_E")}
    for column in changed.values():
        column[place:] = 1
    after = dataclasses.replace(s, item_E=other, **changed)
    for one, two in zip(history_batch(s, *asked, 6), history_batch(after, *asked, 6), strict=True):
        np.testing.assert_array_equal(one, two)


def test_training_steps_know_the_time_of_their_target(make_config, random_log):
    s = build_sequences(RawData(random_log(3), None, "log"), make_config())
    shape = BatchConfig(rows=1, length=400, seed=1)
    assert StreamBatches(s, shape, LabelConfig(), ("train",)).batch(0).request_BTR is None
    batches = StreamBatches(s, shape, LabelConfig(), ("train",), requests=True)
    batch = batches.batch(0)
    first = batch.reset_BT[0] & (np.arange(400) < batches._num_steps)
    event, is_first, _ = batches._steps(0, 0, 400)
    for step, target in enumerate(event):
        before = -1 if is_first[step] else int(s.time_E[target - 1])
        expected = reference(int(s.time_E[target]), before)
        assert batch.request_BTR[0, step].tolist() == expected
    assert first.sum() == is_first.sum()
    assert not batch.request_BTR[0, len(event) :].any()  # padding


def test_after_the_last_event_a_minute_passes(make_config, random_log):
    s = build_sequences(RawData(random_log(5), None, "log"), make_config())
    users = np.arange(len(s.user_ids))
    end = s.offsets_U1[1:]
    found = history_batch(s, end, users, 4).request_BTR[:, -1]
    last = s.time_E[end - 1]
    expected = [reference(int(t) + DELAY_MS if t >= 0 else -1, int(t)) for t in last]
    assert found.tolist() == expected


def test_times_of_requests():
    moment = datetime.datetime(2024, 5, 1, 12, tzinfo=UTC)
    expected = int(moment.timestamp() * 1000)
    for at in (moment, moment.replace(tzinfo=None), expected, "2024-05-01T12:00:00Z"):
        assert request_ms(at) == expected
    for at in ("noon", None, [1], object(), -5):
        with pytest.raises(DataError, match="`at`"):
            request_ms(at)
