"""Behaviour and feed: what one event changes, and what the feed makes of it."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negflax.config import WorldConfig
from negflax.world import Parameters, Population, behaviour, draw_population, feed, mechanisms
from negflax.world.log import play

P = Parameters()
U, ITEMS = WorldConfig().num_users, WorldConfig().num_items


@pytest.fixture(scope="module")
def population() -> Population:
    return draw_population(WorldConfig())


def feedback(dwell_ms: int, long_view: bool, dislike: bool = False) -> behaviour.Feedback:
    no = jnp.zeros(U, bool)
    return behaviour.Feedback(jnp.full(U, dwell_ms), no, no | long_view, no, no | dislike, no)


def shown(population, state, one, online=None):
    """The state after item 7 with that feedback."""
    item, online = jnp.full(U, 7, jnp.int32), state.present_U if online is None else online
    event = behaviour.Event(item, one, online, jnp.zeros(U, bool))
    return behaviour.update(state, population, event, jnp.int32(0), P)


def test_only_users_online_change(population):
    state = behaviour.first_state(population, P)
    online = jnp.arange(U) % 2 == 0
    after = shown(population, state, feedback(20_000, True), online)
    cluster = int(population.items.cluster_I[7])
    np.testing.assert_array_equal(after.boredom_UC[:, cluster], online.astype(np.float32))
    np.testing.assert_array_equal(after.shown_UR[:, 0], np.where(online, 7, -1))
    np.testing.assert_array_equal(after.taste_UW[1::2], state.taste_UW[1::2])
    np.testing.assert_allclose(after.clock_s_U - state.clock_s_U, 20.0 * online, atol=0.5)
    np.testing.assert_array_equal(after.session_U, online)


def test_taste_moves_towards_what_was_enjoyed(population):
    state = behaviour.first_state(population, P)
    distances = []
    for one in (feedback(20_000, True), feedback(500, False), feedback(20_000, True, dislike=True)):
        after = shown(population, state, one)
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

    before = state._replace(shown_UR=jnp.tile(item[:, None], (1, P.no_repeat_rounds)))
    again, explored = serve(jax.random.key(0), population.items, before)
    assert (again == item)[~np.asarray(explored)].mean() < 0.02


def test_affinity_falls_with_boredom_fatigue_and_aversion(population):
    state = behaviour.first_state(population, P)
    item = jnp.full(U, 7, jnp.int32)
    rested = behaviour.affinity(population, state, item, P)
    tired = state._replace(session_U=jnp.full(U, 10.0), boredom_UC=state.boredom_UC + 2)
    fall = P.fatigue_loss * 10 + P.boredom_loss * 2
    later = behaviour.affinity(population, tired, item, P)
    np.testing.assert_allclose(rested - later, np.full(U, fall), atol=1e-5)
    averse = np.stack(behaviour.aversions(population, item)).sum(axis=0)
    means = [float(rested[averse == n].mean()) for n in (0, 1)]
    assert means[0] - means[1] > 0.8 * P.aversion_loss


def test_displeased_users_leave_sooner_and_satisfied_ones_return_sooner(population):
    state = behaviour.first_state(population, P)
    no, yes = jnp.zeros(U, bool), jnp.ones(U, bool)
    watched = behaviour.Feedback(jnp.full(U, 9_000), no, no, no, no, no)
    reactions = (watched, watched._replace(skip_U=yes), watched._replace(dislike_U=yes))
    leaves = [behaviour.leave_session(jax.random.key(0), one, P).mean() for one in reactions]
    np.testing.assert_allclose(leaves, P.session_exit * np.array([1, 1.5, 3]), atol=0.015)

    def days(satisfaction):
        given = state._replace(satisfaction_U=jnp.full(U, satisfaction))
        rested, pause_s = behaviour.pause(jax.random.key(0), population, given, yes, P)
        assert (rested.session_U == 0).all() and (rested.clock_s_U >= state.clock_s_U).all()
        return pause_s / 86_400

    sad, glad = days(0.0), days(1.0)
    assert (glad < 1.4).mean() > (sad < 1.4).mean() + 0.3


def test_a_reacting_platform_shows_less_of_what_was_disliked(population):
    state = behaviour.first_state(population, P)
    cluster = int(population.items.cluster_I[7])
    disliked = state._replace(
        shown_UR=state.shown_UR.at[:, 0].set(7), disliked_UR=state.disliked_UR.at[:, 0].set(True)
    )
    share = {}
    for reacts in (False, True):
        p = mechanisms(WorldConfig(platform_reacts=reacts))
        serve = jax.jit(functools.partial(feed.serve, p=p))
        for name, given in (("before", state), ("after", disliked)):
            found, explored = serve(jax.random.key(0), population.items, given)
            share[reacts, name] = float((population.items.cluster_I[found] == cluster).mean())
    assert share[True, "before"] == share[False, "before"] > 0.01
    assert abs(share[False, "after"] - share[False, "before"]) < 0.002  # item 7 is not repeated
    assert share[True, "after"] < 0.6 * share[True, "before"]


def test_cold_items_wait_for_their_release_and_then_have_a_bonus(population):
    serve = jax.jit(functools.partial(feed.serve, p=P))
    release_s = np.asarray(population.items.release_s_I)
    assert 0.08 < (release_s > 0).mean() < 0.12
    state = behaviour.first_state(population, P)
    shares = []
    for day in (0.0, P.cold_days):
        now = state._replace(clock_s_U=jnp.full(U, day * 86_400))
        item, _ = serve(jax.random.key(0), population.items, now)
        assert (release_s[item] <= day * 86_400).all()
        shares.append((release_s[item] > 0).mean())
    assert shares[0] == 0 < shares[1]


def test_users_in_a_round_are_vectorised_without_a_users_by_items_array(population):
    text = str(jax.make_jaxpr(play, static_argnums=(2, 3))(jax.random.key(0), population, 30, P))
    assert f"[{U},{ITEMS}]" not in text and f"[{ITEMS},{U}]" not in text
    assert text.count(" scan[") >= 1 and len(text.splitlines()) < 3_000  # no unrolled rounds
