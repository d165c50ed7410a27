"""Horizon labels see no held-out event, and no state reads what it predicts."""

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.config import BatchConfig, LabelConfig
from negflax.data import StreamBatches

users = st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any)


def all_batches(sequences, horizon):
    config, labels = BatchConfig(rows=2, length=4), LabelConfig(horizon=horizon)
    batches = StreamBatches(sequences, config, labels, ("train",))
    return [batches.batch(i) for i in range(batches.steps_per_epoch)]


@settings(deadline=None, max_examples=40)
@given(users, st.integers(1, 6), st.integers(0, 3), st.integers(0, 5))
def test_held_out_events_change_no_batch(make_sequences, users, horizon, held_out, seed):
    s = make_sequences(users, held_out=held_out, seed=seed, unlabelled=0.4)
    rng = np.random.default_rng(seed + 1)
    held_E = s.split_E > 0

    def other(column_E, values):
        return np.where(held_E, values, column_E).astype(column_E.dtype)

    num = len(s.item_E)
    changed = dataclasses.replace(
        s,
        item_E=other(s.item_E, rng.integers(1, num + 1, num)),
        positive_weight_E=other(s.positive_weight_E, 7 * rng.integers(0, 2, num)),
        negative_weight_E=other(s.negative_weight_E, 9 * rng.integers(0, 2, num)),
        dislike_E=other(s.dislike_E, rng.integers(0, 3, num)),
        dwell_E=other(s.dwell_E, rng.integers(0, 9, num)),
    )
    for one, two in zip(all_batches(s, horizon), all_batches(changed, horizon), strict=True):
        for left, right in zip(one, two, strict=True):
            np.testing.assert_array_equal(left, right)


@settings(deadline=None, max_examples=40)
@given(users, st.integers(1, 6), st.integers(0, 5))
def test_a_label_is_later_than_what_its_state_has_read(make_sequences, users, horizon, seed):
    s = make_sequences(users, held_out=2, seed=seed, unlabelled=0.4)  # item e + 1 is event e
    user_E = np.repeat(np.arange(len(users)), np.diff(s.offsets_U1))
    for batch in all_batches(s, horizon):
        read = batch.item_ids_BT - 1
        for slot in range(batch.label_ids_BTL.shape[-1]):
            label = batch.label_ids_BTL[..., slot] - 1
            present = label >= 0
            assert not s.split_E[label[present]].any()
            fresh = present & (read < 0)
            first = s.offsets_U1[user_E[label[fresh]]]
            assert np.all(label[fresh] - first < horizon)
            ahead = (label - read)[present & (read >= 0)]
            assert np.all((ahead >= 1) & (ahead <= horizon))
            both = present & (read >= 0)
            assert np.array_equal(user_E[label[both]], user_E[read[both]])
