"""What the feed of the simulated platform shows next: the probability of every item.

The feed (negflax/world/feed.py) draws a cluster, then a few candidates of it by popularity, and
chooses one of these by score; items that it has just shown are chosen only if there are no others.
Approximations: the rivals of a candidate have their mean weight, and freshness is left out.

Shapes: I items of the world in its own order, C clusters, A creators, R newest items.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from negflax.world import Parameters
from negflax.world.population import Array


def exposure(items: Any) -> tuple[Array, Array]:
    """Returns the share in exposure of every item (I,) and cluster (C,)."""
    edge_I1 = jnp.append(0, items.popularity_I)
    return jnp.diff(edge_I1), jnp.diff(edge_I1[items.start_C1])


def served(belief: Any, items: Any, share_I: Array, share_C: Array, p: Parameters) -> Array:
    """Returns the probability that the feed shows each item next, (I,) float32 with sum 1.

    Args:
      belief: what is known of the user, a `Belief` of negflax/simulate/observer.py.
      items: the catalogue.
      share_I: share of each item in exposure.
      share_C: share of each cluster.
      p: mechanisms of the world.
    """
    scale = len(belief.taste_W) ** -0.5
    interest_C = scale * items.centre_CW @ belief.taste_W
    logit_C = p.cluster_personalisation * interest_C - p.feed_boredom * belief.boredom_C
    # The reaction to dislikes; both parameters are 0 if there is none.
    cluster_R, creator_R = items.cluster_I[belief.shown_R], items.creator_I[belief.shown_R]
    logit_C = logit_C.at[cluster_R].add(-p.reaction_cluster * belief.disliked_R)
    blocked_A = jnp.zeros_like(belief.creator_A, bool).at[creator_R].max(belief.disliked_R)
    chosen_C = jax.nn.softmax(logit_C + jnp.log(share_C))

    match_I = scale * items.latent_IW @ belief.taste_W
    score_I = p.item_personalisation * match_I - p.reaction_creator * blocked_A[items.creator_I]
    within_I = _within(
        items, chosen_C.shape, share_I / share_C[items.cluster_I], score_I, belief, p
    )
    feed_I = chosen_C[items.cluster_I] * within_I
    return (1 - p.exploration) * feed_I + p.exploration / len(share_I)


def _within(
    items: Any,
    clusters: tuple[int, ...],
    popular_I: Array,
    score_I: Array,
    belief: Any,
    p: Parameters,
) -> Array:
    """Probability of every item, given that its cluster was drawn; sums to 1 in each cluster.

    `popular_I` is the probability that a candidate of its cluster is the item.
    """

    def of_cluster(x_I: Array) -> Array:
        return jnp.zeros(clusters).at[items.cluster_I].add(x_I)[items.cluster_I]

    none = len(score_I)  # out of range, for −1
    place_R = jnp.where(belief.shown_R < 0, none, belief.shown_R)
    shown_I = jnp.zeros(none).at[place_R].set(1, mode="drop")
    weight_I = jnp.exp(score_I)
    rivals_I = (p.candidates - 1) * of_cluster((1 - shown_I) * popular_I * weight_I)
    new_I = (1 - shown_I) * popular_I * weight_I / (weight_I + rivals_I)
    shown_share_I = of_cluster(shown_I * popular_I)
    # All candidates are from among the shown ones: then the first one is taken.
    only_shown_I = shown_share_I**p.candidates
    repeated_I = shown_share_I ** (p.candidates - 1) * shown_I * popular_I
    total_I = of_cluster(new_I)
    return (1 - only_shown_I) * new_I / jnp.where(total_I > 0, total_I, 1) + repeated_I
