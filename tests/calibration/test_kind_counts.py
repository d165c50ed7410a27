"""Counts of feedback: the same from a log, from events one by one and on the device."""

import jax.numpy as jnp
import numpy as np
import pytest

from negflax.calibration import counts_on_device
from negflax.calibration.kind_counts import (
    STATISTICS,
    UserCounts,
    counts_of,
    joined,
    kind_of_items,
    split_by_user,
)
from negflax.simulate.arm import Events


def reference(sequences, user, end, kind_V):
    """Kind → statistics, one event after the other."""
    found = {}
    start = sequences.offsets_U1[user]
    for number, event in enumerate(range(start, end), start=1):
        kind = int(kind_V[sequences.item_E[event]])
        if not kind:
            continue
        dwell = int(sequences.dwell_E[event])
        disliked = sequences.dislike_E[event] == 2
        long = dwell >= 13 or sequences.watch_ratio_E[event] >= 12  # codes of 18 s and of the whole
        stats = found.setdefault(kind, dict.fromkeys(STATISTICS, 0))
        stats["seen"] += 1
        stats["dislike"] += disliked
        stats["dismissal"] += sequences.dismissal_E[event] == 2
        stats["skip"] += 0 < dwell < 8
        stats["long_view"] += long
        stats["enjoyed"] += long and not disliked
        stats["last_seen"] = number
        if disliked:
            stats["last_dislike"] = number
    return {kind: [int(x) for x in stats.values()] for kind, stats in found.items()}


def queries(sequences):
    """(user, end) of every user at the start, after some events and after all of them."""
    first_U, last_U = sequences.offsets_U1[:-1], sequences.offsets_U1[1:]
    user_R = np.tile(np.arange(len(first_U)), 3)
    return user_R, np.concatenate([first_U, (first_U + last_U) // 2, last_U])


@pytest.mark.parametrize("kind", ["cluster", "creator"])
def test_counts_are_those_of_a_loop(sequences, kind):
    kind_V, (user_R, end_R) = kind_of_items(sequences.catalogue, kind), queries(sequences)
    counts = counts_of(sequences, user_R, end_R, kind_V)
    assert np.array_equal(counts.events_R, end_R - sequences.offsets_U1[user_R])
    for r, (user, end) in enumerate(zip(user_R, end_R, strict=True)):
        mine = counts.user_P == r
        found = dict(zip(counts.kind_P[mine].tolist(), counts.stats_PF[mine].tolist(), strict=True))
        assert found == reference(sequences, user, end, kind_V)


def test_event_by_event_they_are_the_same(sequences):
    catalogue, users = sequences.catalogue, []
    for user in range(5):
        one = UserCounts()
        for event in range(*sequences.offsets_U1[user : user + 2]):
            row = sequences.item_E[event]
            one.add(
                {
                    "dislike": sequences.dislike_E[event],
                    "dismissal": sequences.dismissal_E[event],
                    "dwell": sequences.dwell_E[event],
                    "watch_ratio": sequences.watch_ratio_E[event],
                    "cluster": catalogue.clusters_VC[row, 0],
                    "creator": catalogue.creator_V[row],
                }
            )
        users.append(UserCounts.of_arrays(one.events, one.arrays()))
    for kind in ("cluster", "creator"):
        kind_V = kind_of_items(catalogue, kind)
        whole = counts_of(sequences, np.arange(5), sequences.offsets_U1[1:6], kind_V)
        for found, wanted in zip(joined(users, kind, 5), whole, strict=True):
            assert np.array_equal(found, wanted)
        apart = split_by_user({kind: whole})
        assert [one.by_kind[kind] for one in apart] == [one.by_kind[kind] for one in users]


def test_on_the_device_they_are_the_same(sequences, calibrated):
    catalogue = sequences.catalogue
    of_device = counts_on_device.on_device(calibrated.calibration, catalogue)
    end_R = sequences.offsets_U1[1:5]
    event_ST = end_R[:, None] + np.arange(-8, 0)  # every user has as many
    codes = {name: np.zeros_like(event_ST) for name in Events._fields}
    for name in ("item", "dislike", "dismissal", "dwell", "watch_ratio"):
        codes[name] = getattr(sequences, f"{name}_E")[event_ST].astype(np.int32)
    events = Events(**{name: jnp.asarray(x, jnp.int32) for name, x in codes.items()})
    parts = [Events(*(x[:, part] for x in events)) for part in (slice(0, 5), slice(5, 8))]
    counted = counts_on_device.no_events(of_device, len(end_R))
    for part in parts:
        counted = counts_on_device.count(counted, part, of_device)
    assert counted.age_S.tolist() == [8] * len(end_R)
    for kind in ("cluster", "creator"):
        kind_V = kind_of_items(catalogue, kind)
        cut = sequences.offsets_U1.copy()
        cut[:4] = end_R - 8  # histories of the newest eight events
        shortened = type("Cut", (), {**sequences.__dict__, "offsets_U1": cut})()
        counts = counts_of(shortened, np.arange(4), end_R, kind_V)
        expected = calibrated.calibration.dense(kind, counts, int(kind_V.max()) + 1)
        _, shift = of_device[kind].shift(counted, kind)
        assert np.allclose(np.asarray(shift.bias_GR).T, expected, atol=1e-4)
