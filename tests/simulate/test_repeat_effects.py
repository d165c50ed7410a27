"""Adjusted repeat effects: found where there are some, not where items or users explain them."""

from __future__ import annotations

import numpy as np
import pytest

from negflax.simulate.repeat_effects import last_of_kind, ratio_after, repeat_effect


def log(effect, users=1_500, events=30, items=300, kinds=15, seed=0):
    """Rejections by item, user, and `effect` if the user's last event of the kind was rejected."""
    rng = np.random.default_rng(seed)
    user_E = np.repeat(np.arange(users), events)
    item_E = rng.integers(0, items, users * events)
    kind_E = (np.arange(items) % kinds)[item_E]
    item_I, user_U = rng.normal(0, 0.12, items), rng.normal(0, 0.12, users)
    chance_E = np.clip(0.45 + item_I[item_E] + user_U[user_E], 0.02, 0.98 - effect)
    luck_E, rejected_E = rng.random(len(user_E)), np.zeros(len(user_E))
    last = np.zeros((users, kinds), bool)
    for e in range(len(user_E)):
        place = user_E[e], kind_E[e]
        rejected_E[e] = luck_E[e] < chance_E[e] + effect * last[place]
        last[place] = rejected_E[e]
    return user_E, item_E, kind_E, rejected_E


def test_the_last_event_of_a_kind_by_plain_counting():
    rng = np.random.default_rng(1)
    user_E, kind_E = np.sort(rng.integers(0, 5, 60)), rng.integers(0, 4, 60)
    last: dict[tuple[int, int], int] = {}
    expected = {}
    for e, key in enumerate(zip(user_E.tolist(), kind_E.tolist(), strict=True)):
        if key in last:
            expected[e] = last[key]
        last[key] = e
    assert dict(zip(*(x.tolist() for x in last_of_kind(user_E, kind_E)), strict=True)) == expected


@pytest.mark.parametrize("effect", [0.0, 0.1])
def test_an_effect_is_found_beyond_item_and_user(effect):
    user_E, item_E, kind_E, rejected_E = log(effect)
    accepted_E = rejected_E == 0
    here, last = last_of_kind(user_E, kind_E)
    raw = [rejected_E[here][rejected_E[last] == x].mean() for x in (1, 0)]
    value, low, high = repeat_effect(user_E, item_E, kind_E, rejected_E, accepted_E, 200)
    assert raw[0] - raw[1] > effect + 0.02  # what users have in common with themselves
    assert abs(value - effect) < 0.03 and low < value < high < low + 0.06
    kind_I = np.random.default_rng(0).permutation(np.arange(300) % 15)
    permuted = repeat_effect(user_E, item_E, kind_I[item_E], rejected_E, accepted_E, 200)
    assert value - permuted[0] == pytest.approx(effect, abs=0.025)


def test_events_of_unknown_kind_or_feedback_are_left_out():
    user_E, item_E, kind_E, rejected_E = log(0.1, users=300)
    unknown = np.random.default_rng(0).random(len(user_E)) < 0.2
    kept = [x[~unknown] for x in (user_E, item_E, kind_E, rejected_E)]
    expected = repeat_effect(*kept, kept[3] == 0, 50)
    for changed in (
        (user_E, item_E, np.where(unknown, -1, kind_E), rejected_E),
        (user_E, item_E, kind_E, np.where(unknown, np.nan, rejected_E)),
    ):
        assert repeat_effect(*changed, rejected_E == 0, 50) == pytest.approx(expected)


def test_the_ratio_of_rates_by_hand():
    flag_E = np.array([1.0, 0, 0, 1, np.nan, 1, 0, 0])
    given_E = np.array([1.0, 1, 0, 0, 1, 0, 0, 0])
    value, low, high = ratio_after(flag_E, given_E, np.arange(8))
    assert value == pytest.approx(0.5 / (3 / 7)) and low <= value <= high
