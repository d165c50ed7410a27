"""Behaviour and feed: what one event changes, and what the feed makes of it."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negflax.config import WorldConfig
from negflax.world import Parameters, Population, behaviour, draw_population, feed
from negflax.world.log import play

P = Parameters()
U, ITEMS = WorldConfig().num_users, WorldConfig().num_items


@pytest.fixture(scope="module")
def population() -> Population:
    return draw_population(WorldConfig())


def feedback(dwell_ms: int, long_view: bool, dislike: bool = False) -> behaviour.Feedback:
    no = jnp.zeros(U, bool)
    return behaviour.Feedback(jnp.full(U, dwell_ms), no, no | long_view, no, no | dislike)


def test_only_users_online_change(population):
    state = behaviour.first_state(population, P)
    online = jnp.arange(U) % 2 == 0
    item = jnp.full(U, 7, jnp.int32)
    after = behaviour.update(
        state, population, item, feedback(20_000, True), online, jnp.int32(0), P
    )
    cluster = int(population.items.cluster_I[7])
    np.testing.assert_array_equal(after.boredom_UC[:, cluster], online.astype(np.float32))
    np.testing.assert_array_equal(after.shown_UR[:, 0], np.where(online, 7, -1))
    np.testing.assert_array_equal(after.taste_UW[1::2], state.taste_UW[1::2])


def test_taste_moves_towards_what_was_enjoyed(population):
    state = behaviour.first_state(population, P)
    item = jnp.full(U, 7, jnp.int32)
    distances = []
    for one in (feedback(20_000, True), feedback(500, False), feedback(20_000, True, dislike=True)):
        after = behaviour.update(state, population, item, one, state.present_U, jnp.int32(0), P)
        apart = after.taste_UW - population.items.latent_IW[7]
        distances.append(float(jnp.linalg.norm(apart, axis=1).mean()))
    assert distances[0] < 0.95 * distances[1]
    assert distances[1] == distances[2]


def test_feed_follows_interests_and_avoids_what_was_shown(population):
    serve = jax.jit(functools.partial(feed.serve, p=P))
    state = behaviour.first_state(population, P)
    item, explored = serve(jax.random.key(0), population.items, state)
    cluster = np.asarray(population.items.cluster_I)[item]
    fit = np.asarray(state.taste_UW @ population.items.centre_CW.T)
    assert fit[np.arange(U), cluster].mean() > fit.mean() + 0.5 * fit.std()
    assert 0.01 < np.mean(explored) < 0.1

    bored = state._replace(boredom_UC=state.boredom_UC.at[np.arange(U), cluster].set(20.0))
    again, explored = serve(jax.random.key(0), population.items, bored)
    moved = np.asarray(population.items.cluster_I)[again] != cluster
    assert moved[~np.asarray(explored)].all()

    shown = state._replace(shown_UR=jnp.tile(item[:, None], (1, P.no_repeat_rounds)))
    again, explored = serve(jax.random.key(0), population.items, shown)
    assert (again == item)[~np.asarray(explored)].mean() < 0.02


def test_users_in_a_round_are_vectorised_without_a_users_by_items_array(population):
    text = str(jax.make_jaxpr(play, static_argnums=(2, 3))(jax.random.key(0), population, 30, P))
    assert f"[{U},{ITEMS}]" not in text and f"[{ITEMS},{U}]" not in text
    assert text.count(" scan[") >= 1 and len(text.splitlines()) < 3_000  # no unrolled rounds
