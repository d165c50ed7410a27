"""The stream of training steps and the histories of queries, against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.config import BatchConfig, LabelConfig
from negflax.data import Batch, StreamBatches, history_batch

FEATURES = ("dislike", "dwell", "watch_ratio", "gap", "surface", "dismissal")
lengths = st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any)
shapes = st.tuples(st.integers(1, 4), st.integers(1, 7))


def stream(sequences, rows=2, length=3, seed=0, horizon=1, splits=("train",), host=(0, 1)):
    config = BatchConfig(rows=rows, length=length, seed=seed)
    return StreamBatches(sequences, config, LabelConfig(horizon=horizon), splits, host, True)


def epoch(batches, e=0):
    """The epoch's steps one after the other, as a Batch of one row."""
    n = batches.steps_per_epoch
    parts = [batches.batch(i) for i in range(e * n, (e + 1) * n)]
    columns = zip(*parts, strict=True)
    return Batch(*(np.concatenate([x.reshape(-1, *x.shape[2:]) for x in c]) for c in columns))


def assert_equal(one, other):
    for name, left, right in zip(Batch._fields, one, other, strict=True):
        assert left.dtype == right.dtype and np.array_equal(left, right), name


@settings(deadline=None, max_examples=60)
@given(lengths, shapes, st.integers(0, 3))
def test_every_step_comes_once_an_epoch_with_the_right_input(make_sequences, users, shape, seed):
    s = make_sequences(users, held_out=2, seed=seed)
    batches = stream(s, *shape, seed=seed)
    train = np.flatnonzero(s.split_E == 0)
    assert batches.steps_per_epoch == -(-len(train) // (shape[0] * shape[1]))
    assert batches.num_targets == len(train)
    first = np.isin(np.arange(len(s.item_E)), s.offsets_U1[:-1])
    for e in (0, 2):
        steps = epoch(batches, e)
        inside = slice(0, len(train))
        event = steps.label_ids_BTL[inside, 0] - 1  # every event has a label: it names its step
        assert sorted(event) == train.tolist()
        seen = np.where(first[event], 0, event)  # item e is event e - 1
        assert np.array_equal(steps.item_ids_BT[inside], seen)
        assert np.array_equal(
            steps.reset_BT[inside], first[event] | (np.arange(len(train)) % shape[1] == 0)
        )
        within = np.diff(event) == 1  # a user's steps follow one another
        assert np.all(within | first[event[1:]])
        for name in FEATURES:
            expected = np.append(0, getattr(s, f"{name}_E"))[seen]
            assert np.array_equal(getattr(steps, f"{name}_BT")[inside], expected)
        assert np.array_equal(steps.creator_BT[inside], s.catalogue.creator_V[seen])
        assert np.array_equal(steps.cluster_BT[inside], s.catalogue.clusters_VC[seen, 0])
        assert np.array_equal(steps.positive_weight_BTL[inside, 0], s.positive_weight_E[event])
        assert np.array_equal(steps.negative_weight_BTL[inside, 0], s.negative_weight_E[event])
        for name, column in zip(Batch._fields, steps, strict=True):
            assert np.all(column[len(train) :] == (name == "reset_BT")), name


@settings(deadline=None, max_examples=30)
@given(lengths, shapes, st.integers(0, 30))
def test_a_batch_is_a_pure_function_of_seed_and_number(make_sequences, users, shape, i):
    s = make_sequences(users, unlabelled=0.3)
    used = stream(s, *shape, seed=5)
    for j in (i + 40, 0, 3):
        used.batch(j)
    assert_equal(used.batch(i), stream(s, *shape, seed=5).batch(i))
    assert_equal(used.batch(i), used.batch(i))


def test_shapes_and_dtypes(make_sequences):
    s = make_sequences([5, 4])
    for horizon, slots in ((1, 1), (3, 2)):
        batch = stream(s, rows=2, length=3, horizon=horizon).batch(0)
        for name, column in zip(Batch._fields, batch, strict=True):
            last = {"L": (slots,), "R": (3,)}.get(name[-1], ())
            shape = (2, 3, *last)
            kind = np.float32 if "weight" in name else bool if name == "reset_BT" else np.int32
            assert (column.shape, column.dtype) == (shape, kind), name


def test_epochs_and_seeds_differ(make_sequences):
    s = make_sequences([3] * 40)
    batches = stream(s)
    first = epoch(batches, 0).label_ids_BTL
    assert not np.array_equal(first, epoch(batches, 1).label_ids_BTL)
    assert not np.array_equal(first, epoch(stream(s, seed=1)).label_ids_BTL)


def test_events_without_a_label_stay_inputs(make_sequences):
    s = make_sequences([50], unlabelled=0.5)
    batches = stream(s, rows=1, length=50)
    batch = batches.batch(0)
    labelled = s.positive_weight_E + s.negative_weight_E > 0
    assert np.array_equal(batch.label_ids_BTL[0, :, 0] > 0, labelled)
    assert batches.num_targets == labelled.sum() < 50
    assert batch.item_ids_BT[0].tolist() == list(range(50))


@settings(deadline=None, max_examples=30)
@given(lengths, st.sampled_from([1, 2, 3]), st.integers(1, 7), st.integers(1, 4))
def test_hosts_share_a_batch_by_rows(make_sequences, users, hosts, length, horizon):
    s = make_sequences(users, unlabelled=0.4)
    whole = stream(s, 6, length, horizon=horizon)
    parts = [stream(s, 6, length, horizon=horizon, host=(h, hosts)) for h in range(hosts)]
    for i in range(whole.steps_per_epoch + 1):
        columns = zip(*[part.batch(i) for part in parts], strict=True)
        assert_equal(Batch(*(np.concatenate(c) for c in columns)), whole.batch(i))
    assert {part.num_targets for part in parts} == {whole.num_targets}


def test_hosts_need_equal_rows(make_sequences):
    with pytest.raises(ValueError, match=r"config\.batch\.rows = 4 .* 3 hosts"):
        stream(make_sequences([5]), rows=4, host=(0, 3))


def test_only_the_last_batch_is_padded(make_sequences):
    batches = stream(make_sequences([1, 200, 3, 1]), rows=4, length=10)
    padded = [(b.label_ids_BTL == 0).mean() for b in map(batches.batch, range(6))]
    assert padded[:5] == [0] * 5 and padded[5] == 35 / 40
    assert batches.padding_share == pytest.approx(35 / 240)


def test_splits_choose_the_events(make_sequences):
    s = make_sequences([3, 0, 2], held_out=2)
    assert stream(s).num_targets == 5
    assert stream(s, splits=("train", "test")).num_targets == 11
    with pytest.raises(ValueError, match="no event"):
        stream(s, splits=("valid",))
    s.split_E[1] = 1  # the second of three events to train on
    s.split_E[2] = 1
    with pytest.raises(ValueError, match="leave out a split between"):
        stream(s, splits=("train", "test"))


@settings(deadline=None, max_examples=60)
@given(lengths, st.integers(2, 6), st.integers(0, 5))
def test_horizon_labels_equal_a_plain_loop(make_sequences, users, horizon, seed):
    s = make_sequences(users, held_out=1, seed=seed, unlabelled=0.5)
    batches = stream(s, rows=1, length=len(s.item_E), horizon=horizon)
    batch = batches.batch(0)
    order = np.random.default_rng((0, 0)).permutation(np.count_nonzero(users))
    user_of = np.flatnonzero(users)[order]
    expected = []
    for user in user_of:
        begin = int(s.offsets_U1[user])
        end = begin + users[user]  # held-out events are nobody's label
        for e in range(begin, end):
            window = range(e, min(e + horizon, end))
            positive = next((k for k in window if s.positive_weight_E[k] > 0), -1)
            negative = next((k for k in window if s.negative_weight_E[k] > 0), -1)
            expected.append((positive, negative))
    expected = np.array(expected)
    n = len(expected)
    assert np.array_equal(batch.label_ids_BTL[0, :n], expected + 1)
    assert np.array_equal(
        batch.positive_weight_BTL[0, :n, 0], np.append(s.positive_weight_E, 0)[expected[:, 0]]
    )
    assert np.array_equal(
        batch.negative_weight_BTL[0, :n, 1], np.append(s.negative_weight_E, 0)[expected[:, 1]]
    )
    assert not batch.positive_weight_BTL[..., 1].any()
    assert not batch.negative_weight_BTL[..., 0].any()
    assert batches.num_targets == np.sum(expected >= 0)


@settings(deadline=None, max_examples=60)
@given(lengths, st.integers(1, 12), st.integers(0, 10**6))
def test_a_history_shows_what_the_stream_would(make_sequences, users, length, pick):
    s = make_sequences(users)
    whole = stream(s, rows=1, length=len(s.item_E) + 1).batch(0)
    end = 1 + pick % len(s.item_E)  # after at least one event
    user = int(np.searchsorted(s.offsets_U1, end, side="left")) - 1
    history = history_batch(s, np.array([end]), np.array([user]), length)
    start = int(s.offsets_U1[user])
    n = end - start
    shown = min(length, n + 1)
    inputs = Batch._fields[:8]
    # the stream reads event end - 1 one step after it was the target; the last one is never read
    target = int(np.flatnonzero(whole.label_ids_BTL[0, :, 0] == end)[0])
    for name in inputs:
        left = getattr(history, name)[0, length - shown : length - 1]
        right = getattr(whole, name)[0, target - shown + 2 : target + 1]
        assert np.array_equal(left, right), name
    assert history.item_ids_BT[0, -1] == end
    for name in FEATURES:
        assert getattr(history, f"{name}_BT")[0, -1] == getattr(s, f"{name}_E")[end - 1]
    fits = n < length
    events = np.zeros(length, bool)
    events[length - min(n, length) :] = True
    expected_reset = ~events
    expected_reset[0] = True
    assert history.reset_BT[0].tolist() == expected_reset.tolist()
    assert (history.item_ids_BT[0, -shown] == 0) == fits
    assert not history.label_ids_BTL.any() and history.label_ids_BTL.shape == (1, length, 1)


def test_histories_of_several_users_and_an_empty_one(make_sequences):
    s = make_sequences([4, 2, 3])
    batch = history_batch(s, np.array([0, 6, 9, 3]), np.array([0, 1, 2, 0]), 3)
    assert batch.item_ids_BT.tolist() == [[0, 0, 0], [0, 5, 6], [7, 8, 9], [1, 2, 3]]
    assert batch.reset_BT.tolist() == [
        [True, True, True],
        [True, False, False],
        [True, False, False],
        [True, False, False],
    ]
    with pytest.raises(ValueError, match="end_R"):
        history_batch(s, np.array([5]), np.array([0]), 3)
    with pytest.raises(ValueError, match="end_R"):
        history_batch(s, np.array([3]), np.array([1]), 3)
