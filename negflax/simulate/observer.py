"""Bayesian inference of a user's aversions by an observer who knows the simulated world.

The observer knows the user's taste and boredom, and infers aversions to clusters and creators from
feedback. An observer who does not know the taste averages over several (`Tastes` of
ideal_answers.py). Approximations: aversions to clusters and to creators are independent a
posteriori; the feed remembers the last R events, not the last R rounds.

Shapes: T events, I items of the world in its own order, C clusters, A creators, W taste, R newest
events.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

from negflax.simulate.feed_chances import served
from negflax.world import Parameters
from negflax.world.behaviour import dislike_chances
from negflax.world.population import Array


class Past(NamedTuple):
    """Logged events: the item (index in the world) and feedback bits, all of one shape."""

    item: Array
    skip: Array
    long_view: Array
    dislike: Array
    new_session: Array


class Belief(NamedTuple):
    """What the observer knows about one user.

    Attributes:
      taste_W: present taste, known exactly.
      boredom_C: boredom with each cluster, known exactly.
      cluster_C: log-odds of an aversion to each cluster.
      creator_A: log-odds of an aversion to each creator.
      shown_R: newest items, which the feed remembers and does not repeat; −1 for none.
      disliked_R: which of these were disliked.
      session: number of items since the session began, as far as they were seen.
    """

    taste_W: Array
    boredom_C: Array
    cluster_C: Array
    creator_A: Array
    shown_R: Array
    disliked_R: Array
    session: Array


def first_belief(traits: Any, clusters: int, p: Parameters) -> Belief:
    """Returns the prior belief about a user: the shares of aversions in the population."""
    return Belief(
        traits.taste_UW,
        jnp.zeros(clusters),
        jnp.full(clusters, _logit(p.cluster_aversion)),
        jnp.full(traits.averse_creator_UA.shape, _logit(p.creator_aversion)),
        jnp.full(p.no_repeat_rounds, -1),
        jnp.zeros(p.no_repeat_rounds, bool),
        jnp.zeros(()),
    )


def see(
    belief: Belief, event: Past, items: Any, traits: Any, p: Parameters
) -> tuple[Belief, Array]:
    """Returns the belief after an event, and the log of the chance of its feedback.

    Aversions are inferred by Bayes' rule; taste and boredom follow exactly.
    """
    c, creator, latent_W = (
        x[event.item] for x in (items.cluster_I, items.creator_I, items.latent_IW)
    )
    rest = jnp.where(event.new_session, p.boredom_rest, 1.0)
    boredom_C = rest * belief.boredom_C
    session = jnp.where(event.new_session, 0, belief.session)
    affinity = (
        jnp.dot(belief.taste_W, latent_W) * len(latent_W) ** -0.5
        + p.quality_weight * items.quality_I[event.item]
        + traits.patience_U
        - p.boredom_loss * boredom_C[c]
        - p.fatigue_loss * jnp.minimum(session, p.fatigue_items)
    )
    of_cluster, of_creator = jnp.array([[0.0, 1, 0, 1], [0.0, 0, 1, 1]])  # averse to neither … both
    averse_affinity = affinity - p.aversion_loss * (of_cluster + of_creator)
    skip, long_view = behaviour(averse_affinity, items.duration_ms_I[event.item], p)
    chance = jnp.where(event.long_view, long_view, jnp.maximum(1 - skip - long_view, 1e-3))
    chance = jnp.where(event.skip, skip, chance)
    if p.dislike_cluster or p.dislike_creator:  # else a dislike says nothing, to the last bit
        of_dislike = dislike(of_cluster, of_creator, items.disliked_I[event.item], p)
        chance *= jnp.where(event.dislike, of_dislike, 1 - of_dislike)
    neither, cluster, by, both = chance
    q_cluster, q_creator = (
        jax.nn.sigmoid(belief.cluster_C[c]),
        jax.nn.sigmoid(belief.creator_A[creator]),
    )
    without, averse = neither + q_creator * (by - neither), cluster + q_creator * (both - cluster)
    found_cluster = jnp.log(averse / without)
    found_creator = jnp.log(
        (by + q_cluster * (both - by)) / (neither + q_cluster * (cluster - neither))
    )
    log_chance = jnp.log(without + q_cluster * (averse - without))
    enjoyed = event.long_view & ~event.dislike
    after = Belief(
        belief.taste_W
        + p.taste_learning * enjoyed * (latent_W - belief.taste_W)
        + p.taste_return * (traits.taste_UW - belief.taste_W),
        (p.boredom_decay * boredom_C).at[c].add(1),
        belief.cluster_C.at[c].add(found_cluster),
        belief.creator_A.at[creator].add(found_creator),
        jnp.append(belief.shown_R[1:], event.item),
        jnp.append(belief.disliked_R[1:], event.dislike),
        session + 1,
    )
    return after, log_chance


def rates(
    belief: Belief, items: Any, traits: Any, share_I: Array, share_C: Array, p: Parameters
) -> tuple[Array, Array]:
    """Returns the probability that the next event is a long view (a_I) or a dislike (b_I) of i."""
    served_I = served(belief, items, share_I, share_C, p)
    match_I = items.latent_IW @ belief.taste_W * len(belief.taste_W) ** -0.5
    affinity_I = (
        match_I
        + p.quality_weight * items.quality_I
        + traits.patience_U
        - p.boredom_loss * belief.boredom_C[items.cluster_I]
        - p.fatigue_loss * jnp.minimum(belief.session, p.fatigue_items)
    )
    q_I = jax.nn.sigmoid(belief.cluster_C)[items.cluster_I]
    by_I = jax.nn.sigmoid(belief.creator_A)[items.creator_I]
    weights = (1 - q_I) * (1 - by_I), q_I + by_I - 2 * q_I * by_I, q_I * by_I
    long_view_I = sum(
        weight * behaviour(affinity_I - n * p.aversion_loss, items.duration_ms_I, p)[1]
        for n, weight in enumerate(weights)
    )
    return served_I * long_view_I, served_I * dislike(q_I, by_I, items.disliked_I, p)


def behaviour(affinity: Array, duration_ms: Array, p: Parameters) -> tuple[Array, Array]:
    """Returns the probabilities of a skip and of a long view (negflax/world/behaviour.py)."""
    swipe = jax.nn.sigmoid(p.swipe_bias - p.swipe_slope * affinity)
    seconds = duration_ms / 1_000
    mean = p.watch_bias + p.watch_slope * affinity
    mean -= p.watch_length * jnp.log(seconds / p.duration_median_s)
    needed = jnp.log(jnp.minimum(p.long_view_s / seconds, 1))
    return swipe, (1 - swipe) * norm.sf((needed - mean) / p.watch_noise)


def dislike(of_cluster: Array, of_creator: Array, disliked: Array, p: Parameters) -> Array:
    """Returns the probability of a dislike, given aversions or their probabilities.

    `disliked` are the items' factors of it.
    """
    noise, by_cluster, by_creator = dislike_chances(disliked, p)
    return 1 - (1 - noise) * (1 - by_cluster * of_cluster) * (1 - by_creator * of_creator)


def _logit(chance: float) -> float:
    return float(np.log(chance / (1 - chance)))
