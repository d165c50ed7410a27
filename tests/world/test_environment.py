"""The platform step by step: shapes, feedback that agrees with itself, errors, determinism."""

from __future__ import annotations

import numpy as np
import pytest

from negflax.config import ConfigError, WorldConfig
from negflax.world import Parameters, Platform

SMALL = WorldConfig(num_users=200, num_items=50, num_creators=10, num_clusters=5, steps=4)
QUIT = Parameters(leave=0.3)


def items_of(rng, *shape):
    return rng.integers(0, SMALL.num_items, shape)


def test_the_feed_plays_whatever_is_shown_until_users_leave():
    environment, rng = Platform(SMALL, "feed", QUIT), np.random.default_rng(0)
    seen, info = environment.reset(seed=3)
    assert (seen["item"] == -1).all() and info == {}
    gone = np.zeros(200, bool)
    for step in range(4):
        action = items_of(rng, 200)
        seen, reward, terminated, truncated, _ = environment.step(action)
        np.testing.assert_array_equal(seen["item"], np.where(gone, -1, action))
        assert not seen["long_view"][gone].any() and not seen["dwell_ms"][gone].any()
        np.testing.assert_array_equal(reward, 1.0 * seen["long_view"] - seen["dislike"])
        assert (terminated | ~gone).all() and truncated.all() == (step == 3)
        gone = terminated
    assert 0.6 < gone.mean() < 0.9 and 0.2 < seen["skip"][seen["item"] >= 0].mean() < 0.7


def test_a_home_page_is_looked_at_from_the_top_and_opens_one_item_at_most():
    environment, rng = Platform(SMALL, "home"), np.random.default_rng(0)
    environment.reset(seed=3)
    looked, clicks = [], 0
    for _ in range(4):
        page = items_of(rng, 200, 6)
        seen, *_ = environment.step(page)
        looked.append(seen["looked"])
        assert (seen["click"].sum(axis=1) <= 1).all()
        assert not (seen["click"] & ~seen["looked"]).any()
        assert not (seen["dismissal"] & (seen["click"] | ~seen["looked"])).any()
        opened = seen["click"].any(axis=1)
        np.testing.assert_array_equal(seen["item"][opened], page[seen["click"]])
        assert (seen["item"][~opened] == -1).all() and not seen["dwell_ms"][~opened].any()
        clicks += opened.mean() / 4
    shares = np.concatenate(looked)[:, :6].mean(axis=0)
    np.testing.assert_allclose(shares, np.arange(1, 7) ** -0.7, atol=0.08)
    assert 0.15 < clicks < 0.7


def test_two_agents_with_the_same_seed_get_the_same_random_draws():
    rng = np.random.default_rng(0)
    action = items_of(rng, 200)
    one, other = Platform(SMALL), Platform(SMALL)
    results = []
    for environment in (one, other, one):
        environment.reset(seed=5)
        results.append(environment.step(action)[0])
    for again in results[1:]:
        assert all(np.array_equal(results[0][name], again[name]) for name in again)
    one.reset(seed=6)
    assert not np.array_equal(one.step(action)[0]["dwell_ms"], results[0]["dwell_ms"])


def test_mistakes_give_clear_errors():
    with pytest.raises(ConfigError, match="choose from feed, home"):
        Platform(SMALL, "radio")
    environment = Platform(SMALL)
    with pytest.raises(RuntimeError, match="reset"):
        environment.step(np.zeros(200, int))
    environment.reset()
    for bad, word in (
        (np.zeros((200, 6), int), "shape"),
        (np.full(200, 50), "0 to 49"),
        (np.zeros(200), "integers"),
    ):
        with pytest.raises(ValueError, match=word):
            environment.step(bad)
