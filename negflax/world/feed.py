"""The logging platform: which item a user is shown next.

Two stages, so that no array of users × items arises: a cluster, by popularity and the user's
present interests less what was just shown, then one of a few popular items of that cluster.
Dislikes do not enter: the platform whose log is learned from ignores them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

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
    slot_key, item_key, pick_key, random_key = jax.random.split(key, 4)
    users, count = state.taste_UW.shape[0], items.cluster_I.shape[0]

    uniform_2U = jax.random.uniform(slot_key, (2, users), F32)
    cluster_U = _choose_cluster(uniform_2U[0], items, state, p)
    item_UM = _popular_items(item_key, items, cluster_U, p.candidates)
    shown_UM = (item_UM[:, :, None] == state.shown_UR[:, None, :]).any(-1)
    score_UM = p.item_personalisation * match(
        "uw,umw->um", state.taste_UW, items.latent_IW[item_UM]
    ) - jnp.where(shown_UM, F32(1e6), F32(0))
    pick_U = jnp.argmax(score_UM + jax.random.gumbel(pick_key, score_UM.shape, F32), axis=1)
    item_U = jnp.take_along_axis(item_UM, pick_U[:, None], axis=1)[:, 0]

    explored_U = uniform_2U[1] < p.exploration
    random_U = jax.random.randint(random_key, (users,), 0, count, dtype=jnp.int32)
    return jnp.where(explored_U, random_U, item_U), explored_U


def _choose_cluster(uniform_U: Array, items: Items, state: UserState, p: Parameters) -> Array:
    """(U,) int32: softmax of interest − boredom, times the cluster's share of the exposure."""
    edge_C1 = jnp.concatenate([jnp.zeros(1, F32), items.popularity_I])[items.start_C1]
    logit_UC = (
        p.cluster_personalisation * match("uw,cw->uc", state.taste_UW, items.centre_CW)
        - p.feed_boredom * state.boredom_UC
    )
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
