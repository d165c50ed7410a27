"""The logging platform: which item a user is shown next.

Two stages, so that no array of users × items arises: a cluster, by popularity and the user's
present interests less what was just shown, then one of a few popular items of that cluster.
Dislikes do not enter, unless the platform reacts: then what was disliked is shown less often, and
a model that learns from the log without seeing dislikes cannot tell why.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from negflax.world import serving
from negflax.world.behaviour import UserState
from negflax.world.parameters import Parameters
from negflax.world.population import F32, Array, Items, match


def serve(key: Array, items: Items, state: UserState, p: Parameters) -> tuple[Array, Array]:
    """One item for every user.

    Args:
      key: random key of the round.
      items: the catalogue.
      state: taste, boredom and recently shown items of U users.
      p: mechanisms of the world.

    Returns:
      item_U (int32, index into `items`) and explored_U (bool, the slot went to exploration).
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
    """1 for items that were released during the log, 0 for those that were there before."""
    return (items.release_s_I[item_UM] > 0).astype(F32)


def _disliked_creator(items: Items, state: UserState, item_UM: Array, p: Parameters) -> Array:
    """(U, M) float32: 1 where the user has lately disliked an item of the creator."""
    if not p.reaction_creator:
        return jnp.zeros(item_UM.shape, F32)
    creator_UR = jnp.where(state.disliked_UR, items.creator_I[state.shown_UR], -1)
    same_UMR = items.creator_I[item_UM][:, :, None] == creator_UR[:, None, :]
    return same_UMR.any(-1).astype(F32)


def _choose_cluster(uniform_U: Array, items: Items, state: UserState, p: Parameters) -> Array:
    """(U,) int32: softmax of interest − boredom, times the cluster's share of the exposure."""
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
    """(U, M) int32: items of the clusters, drawn by popularity, with repetition."""
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
