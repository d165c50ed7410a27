"""What users do with an item they are shown, and how it changes them.

Sizes as suffixes: U users, C clusters, W latent width, R rounds that the feed remembers.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from negflax.world.parameters import Parameters
from negflax.world.population import F32, Array, Items, Population, match


class UserState(NamedTuple):
    """What changes from event to event.

    Attributes:
      present_U: bool, the user has not left for good.
      taste_UW: float32, present taste; it drifts around the lasting one.
      boredom_UC: float32, recent items of each cluster, fading.
      shown_UR: int32, items shown in the last rounds, −1 for none.
    """

    present_U: Array
    taste_UW: Array
    boredom_UC: Array
    shown_UR: Array


class Feedback(NamedTuple):
    """Feedback on one item by each of U users: dwell_ms_U int32 milliseconds, others bool."""

    dwell_ms_U: Array
    skip_U: Array
    long_view_U: Array
    like_U: Array
    dislike_U: Array


def first_state(population: Population, p: Parameters) -> UserState:
    """Everybody present, rested and with their lasting taste."""
    users, clusters = population.users.averse_cluster_UC.shape
    return UserState(
        present_U=jnp.ones(users, bool),
        taste_UW=population.users.taste_UW,
        boredom_UC=jnp.zeros((users, clusters), F32),
        shown_UR=jnp.full((users, p.no_repeat_rounds), -1, jnp.int32),
    )


def respond(
    key: Array, population: Population, state: UserState, item_U: Array, p: Parameters
) -> Feedback:
    """Each user's feedback on their item: affinity → swipe or watch ratio → dwell → buttons.

    Args:
      key: random key of the round.
      population: traits of U users and the catalogue.
      state: present taste and boredom.
      item_U: int32 indices into the catalogue.
      p: mechanisms of the world.
    """
    items, users = population.items, population.users
    averse_cluster_U, averse_creator_U = aversions(population, item_U)
    boredom_U = _of_cluster(state.boredom_UC, items, item_U)
    affinity_U = (
        match("uw,uw->u", state.taste_UW, items.latent_IW[item_U])
        + p.quality_weight * items.quality_I[item_U]
        - p.boredom_loss * boredom_U
        - p.aversion_loss * (averse_cluster_U.astype(F32) + averse_creator_U.astype(F32))
    )
    swipe_key, watch_key, button_key = jax.random.split(key, 3)
    count = users.activity_U.shape[0]

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
    ).astype(jnp.int32)  # whole milliseconds first: the log's skips then agree with its dwells

    skip_U = dwell_ms_U < skip_below_ms_U
    uniform_2U = jax.random.uniform(button_key, (2, count), F32)
    like_U = uniform_2U[0] < jax.nn.sigmoid(p.like_bias + p.like_slope * affinity_U)
    content_U = (
        F32(1 - p.dislike_noise)
        * (1 - p.dislike_cluster * averse_cluster_U.astype(F32))
        * (1 - p.dislike_creator * averse_creator_U.astype(F32))
    )
    dislike_U = uniform_2U[1] >= content_U
    return Feedback(
        dwell_ms_U=dwell_ms_U,
        skip_U=skip_U,
        long_view_U=dwell_ms_U >= jnp.minimum(round(p.long_view_s * 1_000), duration_ms_U),
        like_U=like_U & ~skip_U & ~dislike_U,
        dislike_U=dislike_U,
    )


def rest(state: UserState, new_session_U: Array, p: Parameters) -> UserState:
    """A pause between sessions takes most of the boredom away."""
    left_U1 = jnp.where(new_session_U, F32(p.boredom_rest), F32(1))[:, None]
    return state._replace(boredom_UC=state.boredom_UC * left_U1)


def update(
    state: UserState,
    population: Population,
    item_U: Array,
    feedback: Feedback,
    online_U: Array,
    round_index: Array,
    p: Parameters,
) -> UserState:
    """The state after the event; users who are not online keep theirs."""
    items = population.items
    clusters = jnp.arange(state.boredom_UC.shape[1], dtype=jnp.int32)
    seen_UC = items.cluster_I[item_U][:, None] == clusters
    boredom_UC = p.boredom_decay * state.boredom_UC + seen_UC.astype(F32)

    enjoyed_U1 = (feedback.long_view_U & ~feedback.dislike_U)[:, None].astype(F32)
    towards_UW = p.taste_learning * enjoyed_U1 * (items.latent_IW[item_U] - state.taste_UW)
    back_UW = p.taste_return * (population.users.taste_UW - state.taste_UW)

    slot = round_index % state.shown_UR.shape[1]
    online_U1 = online_U[:, None]
    return state._replace(
        taste_UW=state.taste_UW + jnp.where(online_U1, towards_UW + back_UW, F32(0)),
        boredom_UC=jnp.where(online_U1, boredom_UC, state.boredom_UC),
        shown_UR=state.shown_UR.at[:, slot].set(jnp.where(online_U, item_U, -1)),
    )


def aversions(population: Population, item_U: Array) -> tuple[Array, Array]:
    """Whether each user is averse to their item's cluster, and to its creator: two (U,) bool."""
    items, users = population.items, population.users
    creator_U1 = items.creator_I[item_U][:, None]
    averse_creator_U = jnp.take_along_axis(users.averse_creator_UA, creator_U1, axis=1)[:, 0]
    return _of_cluster(users.averse_cluster_UC, items, item_U), averse_creator_U


def _of_cluster(value_UC: Array, items: Items, item_U: Array) -> Array:
    """(U,): each user's value for the cluster of their item."""
    return jnp.take_along_axis(value_UC, items.cluster_I[item_U][:, None], axis=1)[:, 0]
