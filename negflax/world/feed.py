"""The feed of the logging platform: chooses the next item for each user.

It works in two stages, so that there is no array of users × items. First it chooses a cluster, by
popularity and the user's present interests, lowered for clusters that were just shown; then one of
a few popular items of that cluster. Dislikes have no effect unless the platform reacts to them:
then disliked creators and clusters are shown less often, and a model that does not see dislikes
cannot explain this part of the log.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from negflax.world import serving
from negflax.world.behaviour import UserState
from negflax.world.parameters import Parameters
from negflax.world.population import F32, Array, Items, match


def serve(key: Array, items: Items, state: UserState, p: Parameters) -> tuple[Array, Array]:
    """Chooses one item for every user.

    Args:
      key: random key of the round.
      items: the catalogue.
      state: taste, boredom and recently shown items of U users.
      p: mechanisms of the world.

    Returns:
      item_U (int32, index into `items`) and explored_U (bool, the item is a random exploration).
    """
    slot_key, item_key, pick_key = jax.random.split(key, 3)
    uniform_U = jax.random.uniform(slot_key, (state.taste_UW.shape[0],), F32)
    cluster_U = _choose_cluster(uniform_U, items, state, p)
    item_UM = _popular_items(item_key, items, cluster_U, p.candidates)
    shown_UM = (item_UM[:, :, None] == state.shown_UR[:, None, :]).any(-1)
    age_s_UM = state.clock_s_U[:, None] - items.release_s_I[item_UM]
    score_UM = (
        p.item_personalisation * match("uw,umw->um", state.taste_UW, items.latent_IW[item_UM])
        + p.freshness * _new(items, item_UM) * jnp.exp(-age_s_UM / F32(p.freshness_days * 86_400))
        - p.reaction_creator * _disliked_creator(items, state, item_UM, p)
    )
    score_UM = jnp.where(shown_UM | (age_s_UM < 0), serving.UNWANTED, score_UM)
    layer = serving.Serving(exploration=p.exploration)
    context = serving.Context(items.release_s_I, state.clock_s_U)
    item_U1, explored_U1 = serving.serve_list(pick_key, item_UM, score_UM, 1, layer, context)
    return item_U1[:, 0], explored_U1[:, 0]


def _new(items: Items, item_UM: Array) -> Array:
    """Returns 1 for items released during the log, 0 for older ones."""
    return (items.release_s_I[item_UM] > 0).astype(F32)


def _disliked_creator(items: Items, state: UserState, item_UM: Array, p: Parameters) -> Array:
    """Returns 1 where the user has recently disliked an item of the creator, (U, M) float32."""
    if not p.reaction_creator:
        return jnp.zeros(item_UM.shape, F32)
    creator_UR = jnp.where(state.disliked_UR, items.creator_I[state.shown_UR], -1)
    same_UMR = items.creator_I[item_UM][:, :, None] == creator_UR[:, None, :]
    return same_UMR.any(-1).astype(F32)


def _choose_cluster(uniform_U: Array, items: Items, state: UserState, p: Parameters) -> Array:
    """Draws a cluster per user, (U,) int32.

    The probability is proportional to exp(interest − boredom) × the cluster's share of exposure.
    """
    edge_C1 = jnp.concatenate([jnp.zeros(1, F32), items.popularity_I])[items.start_C1]
    logit_UC = (
        p.cluster_personalisation * match("uw,cw->uc", state.taste_UW, items.centre_CW)
        - p.feed_boredom * state.boredom_UC
    )
    if p.reaction_cluster:
        user_U1 = jnp.arange(logit_UC.shape[0])[:, None]
        disliked_UR = p.reaction_cluster * state.disliked_UR.astype(F32)
        logit_UC = logit_UC.at[user_U1, items.cluster_I[state.shown_UR]].add(-disliked_UR)
    peak_U1 = logit_UC.max(axis=1, keepdims=True)
    share_UC = jnp.cumsum(jnp.exp(logit_UC - peak_U1) * jnp.diff(edge_C1), axis=1)
    cluster_U = (share_UC <= uniform_U[:, None] * share_UC[:, -1:]).sum(axis=1, dtype=jnp.int32)
    return jnp.minimum(cluster_U, share_UC.shape[1] - 1)


def _popular_items(key: Array, items: Items, cluster_U: Array, count: int) -> Array:
    """Draws M items of each user's cluster by popularity, with replacement, (U, M) int32."""
    edge_I1 = jnp.concatenate([jnp.zeros(1, F32), items.popularity_I])
    first_U1 = items.start_C1[cluster_U][:, None]
    last_U1 = items.start_C1[cluster_U + 1][:, None]
    low_U1, high_U1 = edge_I1[first_U1], edge_I1[last_U1]
    uniform_UM = jax.random.uniform(key, (cluster_U.shape[0], count), F32)
    item_UM = jnp.searchsorted(
        items.popularity_I, low_U1 + uniform_UM * (high_U1 - low_U1), side="right"
    ).astype(jnp.int32)
    # Rounding may step over the edge of the cluster.
    return jnp.clip(item_UM, first_U1, jnp.maximum(last_U1 - 1, first_U1))
