"""How users respond to an item, and how their state changes after it.

All feedback depends on affinity: the match between the user's present taste and the item, plus item
quality and the user's patience, minus boredom with the cluster, fatigue in the session and
aversions.

Sizes as suffixes: U users, C clusters, W latent width, R rounds that the feed remembers.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from negflax.world.parameters import Parameters
from negflax.world.population import F32, Array, Items, Population, match


class UserState(NamedTuple):
    """The part of a user that changes from event to event.

    Attributes:
      present_U: bool, whether the user is still on the platform.
      taste_UW: float32, present taste, which drifts around the lasting taste.
      boredom_UC: float32, decaying count of recent items of each cluster.
      shown_UR: int32, items shown in the last R rounds, −1 for none.
      disliked_UR: bool, which of these were disliked.
      clock_s_U: float32, seconds after the start of the log.
      session_U: float32, number of items since the session began.
      satisfaction_U: float32, running mean of long views.
      left_session_U: bool, whether the next item begins a new session.
    """

    present_U: Array
    taste_UW: Array
    boredom_UC: Array
    shown_UR: Array
    disliked_UR: Array
    clock_s_U: Array
    session_U: Array
    satisfaction_U: Array
    left_session_U: Array


class Feedback(NamedTuple):
    """Feedback of each of U users on one item: dwell_ms_U is int32 milliseconds, the rest bool."""

    dwell_ms_U: Array
    skip_U: Array
    long_view_U: Array
    like_U: Array
    dislike_U: Array
    dismissal_U: Array


class Event(NamedTuple):
    """The item that each of U users was shown, and their response.

    Attributes:
      item_U: int32 indices into the catalogue.
      feedback: feedback on the item.
      happened_U: bool, whether the user had an event; the others keep their state.
      ends_session_U: bool, whether the user ends the session after the item.
    """

    item_U: Array
    feedback: Feedback
    happened_U: Array
    ends_session_U: Array


def first_state(population: Population, p: Parameters) -> UserState:
    """Returns the initial state: all users present, not bored or tired, at their lasting taste."""
    users, clusters = population.users.averse_cluster_UC.shape
    return UserState(
        present_U=jnp.ones(users, bool),
        taste_UW=population.users.taste_UW,
        boredom_UC=jnp.zeros((users, clusters), F32),
        shown_UR=jnp.full((users, p.no_repeat_rounds), -1, jnp.int32),
        disliked_UR=jnp.zeros((users, p.no_repeat_rounds), bool),
        clock_s_U=population.users.arrival_s_U,
        session_U=jnp.zeros(users, F32),
        satisfaction_U=jnp.full(users, p.satisfaction_mean, F32),
        left_session_U=jnp.ones(users, bool),
    )


def respond(
    key: Array, population: Population, state: UserState, item_U: Array, p: Parameters
) -> Feedback:
    """Draws each user's feedback on one item.

    Affinity decides whether the user swipes the item away or how much of it they watch; this gives
    the dwell time, and then skip, long view, like, dislike and dismissal.

    Args:
      key: random key of the round.
      population: traits of U users and the catalogue.
      state: present taste and boredom.
      item_U: int32 indices into the catalogue.
      p: mechanisms of the world.
    """
    items = population.items
    averse_cluster_U, averse_creator_U = aversions(population, item_U)
    affinity_U = affinity(population, state, item_U, p)
    swipe_key, watch_key, button_key = jax.random.split(key, 3)
    count = affinity_U.shape[0]

    duration_ms_U = items.duration_ms_I[item_U]
    skip_below_ms_U = jnp.minimum(round(p.skip_s * 1_000), duration_ms_U)
    swipe_2U = jax.random.uniform(swipe_key, (2, count), F32)
    swiped_U = swipe_2U[0] < jax.nn.sigmoid(p.swipe_bias - p.swipe_slope * affinity_U)
    length_U = duration_ms_U.astype(F32) / F32(p.duration_median_s * 1_000)
    log_ratio_U = (
        p.watch_bias
        + p.watch_slope * affinity_U
        - p.watch_length * jnp.log(length_U)
        + p.watch_noise * jax.random.normal(watch_key, (count,), F32)
    )
    ratio_U = jnp.minimum(jnp.exp(log_ratio_U), F32(p.watch_max))
    dwell_ms_U = jnp.where(
        swiped_U,
        skip_below_ms_U.astype(F32) * swipe_2U[1],
        duration_ms_U.astype(F32) * ratio_U,
    ).astype(jnp.int32)  # rounded before the skip is decided, so that both agree in the log

    skip_U = dwell_ms_U < skip_below_ms_U
    uniform_3U = jax.random.uniform(button_key, (3, count), F32)
    like_U = uniform_3U[0] < jax.nn.sigmoid(p.like_bias + p.like_slope * affinity_U)
    noise, by_cluster, by_creator = dislike_chances(items.disliked_I[item_U], p)
    content_U = (
        (1 - noise)
        * (1 - by_cluster * averse_cluster_U.astype(F32))
        * (1 - by_creator * averse_creator_U.astype(F32))
    )
    dislike_U = uniform_3U[1] >= content_U
    averse_U = averse_cluster_U | averse_creator_U
    dismissal_U = skip_U & (
        uniform_3U[2] < p.dismissal_skip + p.dismissal_averse * averse_U.astype(F32)
    )
    return Feedback(
        dwell_ms_U=dwell_ms_U,
        skip_U=skip_U,
        long_view_U=dwell_ms_U >= jnp.minimum(round(p.long_view_s * 1_000), duration_ms_U),
        like_U=like_U & ~skip_U & ~dislike_U,
        dislike_U=dislike_U,
        dismissal_U=dismissal_U & ~dislike_U,
    )


def dislike_chances(disliked: Array, p: Parameters) -> tuple[Array | float, ...]:
    """Returns the probabilities of a dislike by accident, and by aversion to cluster and creator.

    Args:
      disliked: factors of the items (`Items.disliked_I`), any shape.
      p: mechanisms of the world.
    """
    chances = p.dislike_noise, p.dislike_cluster, p.dislike_creator
    if not p.dislike_item_spread:  # plain numbers, so that the log of such a world stays as it was
        return chances
    return tuple(jnp.minimum(chance * disliked, 1) for chance in chances)


def affinity(population: Population, state: UserState, item_U: Array, p: Parameters) -> Array:
    """Returns each user's present affinity to one item, (U,) float32."""
    items, users = population.items, population.users
    averse_cluster_U, averse_creator_U = aversions(population, item_U)
    return (
        match("uw,uw->u", state.taste_UW, items.latent_IW[item_U])
        + p.quality_weight * items.quality_I[item_U]
        + users.patience_U
        - p.boredom_loss * _of_cluster(state.boredom_UC, items, item_U)
        - p.fatigue_loss * jnp.minimum(state.session_U, F32(p.fatigue_items))
        - p.aversion_loss * (averse_cluster_U.astype(F32) + averse_creator_U.astype(F32))
    )


def pause(
    key: Array, population: Population, state: UserState, online_U: Array, p: Parameters
) -> tuple[UserState, Array]:
    """Draws the time before the next item: seconds within a session, days between sessions.

    Satisfied users are more likely to return the next day. A pause between sessions removes fatigue
    and most of the boredom.

    Returns:
      The state of the users after the pause, and pause_s_U (float32 seconds).
    """
    uniform_2U = jax.random.uniform(key, (2, online_U.shape[0]), F32)
    exponential_2U = jax.random.exponential(jax.random.fold_in(key, 1), uniform_2U.shape, F32)
    satisfied_U = state.satisfaction_U - F32(p.satisfaction_mean)
    next_day_U = uniform_2U[0] < p.return_next_day + p.return_satisfaction * satisfied_U
    between_h_U = jnp.where(
        next_day_U,
        16 + 16 * uniform_2U[1],
        F32(p.session_gap_hours) * population.users.pace_U * exponential_2U[0],
    )
    new_session_U = online_U & state.left_session_U
    pause_s_U = jnp.where(new_session_U, 3_600 * between_h_U, F32(p.browse_s) * exponential_2U[1])
    left_U1 = jnp.where(new_session_U, F32(p.boredom_rest), F32(1))[:, None]
    state = state._replace(
        boredom_UC=state.boredom_UC * left_U1,
        session_U=jnp.where(new_session_U, 0, state.session_U),
        clock_s_U=state.clock_s_U + jnp.where(online_U, pause_s_U, 0),
    )
    return state, pause_s_U


def leave_session(key: Array, feedback: Feedback, p: Parameters) -> Array:
    """Draws whether the session ends after this item, (U,) bool; bad items make it more likely."""
    annoyed_U = feedback.dislike_U | feedback.dismissal_U
    factor_U = jnp.where(feedback.skip_U, F32(p.exit_skip), F32(1))
    factor_U = jnp.where(annoyed_U, F32(p.exit_dislike), factor_U)
    return jax.random.uniform(key, factor_U.shape, F32) < p.session_exit * factor_U


def update(
    state: UserState, population: Population, event: Event, round_index: Array, p: Parameters
) -> UserState:
    """Returns the state after the event of a round; users without an event keep theirs."""
    item_U, feedback, happened_U, ends_session_U = event
    memory = F32(p.satisfaction_memory)
    satisfaction_U = memory * state.satisfaction_U + (1 - memory) * feedback.long_view_U
    items = population.items
    clusters = jnp.arange(state.boredom_UC.shape[1], dtype=jnp.int32)
    seen_UC = items.cluster_I[item_U][:, None] == clusters
    boredom_UC = p.boredom_decay * state.boredom_UC + seen_UC.astype(F32)

    enjoyed_U1 = (feedback.long_view_U & ~feedback.dislike_U)[:, None].astype(F32)
    towards_UW = p.taste_learning * enjoyed_U1 * (items.latent_IW[item_U] - state.taste_UW)
    back_UW = p.taste_return * (population.users.taste_UW - state.taste_UW)

    slot = round_index % state.shown_UR.shape[1]
    happened_U1 = happened_U[:, None]
    return state._replace(
        taste_UW=state.taste_UW + jnp.where(happened_U1, towards_UW + back_UW, F32(0)),
        boredom_UC=jnp.where(happened_U1, boredom_UC, state.boredom_UC),
        shown_UR=state.shown_UR.at[:, slot].set(jnp.where(happened_U, item_U, -1)),
        disliked_UR=state.disliked_UR.at[:, slot].set(happened_U & feedback.dislike_U),
        clock_s_U=state.clock_s_U + jnp.where(happened_U, feedback.dwell_ms_U / F32(1_000), 0),
        session_U=state.session_U + happened_U,
        satisfaction_U=jnp.where(happened_U, satisfaction_U, state.satisfaction_U),
        left_session_U=jnp.where(happened_U, ends_session_U, state.left_session_U),
    )


def aversions(population: Population, item_U: Array) -> tuple[Array, Array]:
    """Returns whether each user is averse to the item's cluster and its creator: two (U,) bool."""
    items, users = population.items, population.users
    creator_U1 = items.creator_I[item_U][:, None]
    averse_creator_U = jnp.take_along_axis(users.averse_creator_UA, creator_U1, axis=1)[:, 0]
    return _of_cluster(users.averse_cluster_UC, items, item_U), averse_creator_U


def _of_cluster(value_UC: Array, items: Items, item_U: Array) -> Array:
    """Returns each user's value for the cluster of their item, (U,)."""
    return jnp.take_along_axis(value_UC, items.cluster_I[item_U][:, None], axis=1)[:, 0]
