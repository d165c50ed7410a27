"""What an observer who knows the simulated world would list: the ceiling of what can be learned.

The observer knows every mechanism and item and each user's lasting taste; aversions it must infer
from feedback, by Bayes, as a model must. After one more dislike, or skip, its lists change by as
much as the log's law supports; a model that imitates the log and shows more overreacts. For the
objective with dislikes as labels its p is that at the stationary point (SPEC section 3).

Approximations: clusters and creators are independent a posteriori; freshness is left out.

Shapes: S users, T events, I items of the world in its own order, C clusters, A creators, W taste,
K list length.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.stats import norm

from negflax.config import WorldConfig
from negflax.data import Sequences, features
from negflax.world import Parameters, Population, draw_population, mechanisms
from negflax.world.population import Array

SESSION_S = 3_600.0  # a longer pause begins a session


class Past(NamedTuple):
    """Logged events: item (index in the world) and bits, each (S, T)."""

    item: Array
    skip: Array
    long_view: Array
    dislike: Array
    new_session: Array


class Belief(NamedTuple):
    """Of one user: taste_W and boredom_C, and log-odds of an aversion to a cluster, a creator."""

    taste_W: Array
    boredom_C: Array
    cluster_C: Array
    creator_A: Array


def ideal_lists(
    sequences: Sequences,
    event_ST: np.ndarray,
    world: WorldConfig,
    omega: float,
    length: int,
    signal: str = "dislike",
) -> np.ndarray:
    """Lists after the last event was watched to its end, and with a dislike of it, or skipped.

    Args:
      sequences: the log of that world.
      event_ST: places in it, the newest event last.
      world: its settings.
      omega: ω of the objective with labels, w = ω / p̄; 0: positives alone.
      length: K.
      signal: one of walk.SIGNALS.

    Returns:
      Catalogue rows (2, S, K), consumed items left out.
    """
    p, population = mechanisms(world), draw_population(world)
    place_I = np.argsort(np.asarray(population.items.item_id_I))  # by public id, which is from 0
    place_V = np.append(0, place_I[sequences.catalogue.item_ids])
    past = _past(sequences, event_ST, place_V)
    user_S = np.searchsorted(sequences.offsets_U1, event_ST[:, 0], side="right") - 1
    user_S = sequences.user_ids[user_S].astype(np.int64)
    known_I = np.zeros(len(place_I), bool)
    known_I[place_V[1:]] = True
    run = functools.partial(
        _lists, population, past, user_S, known_I, p=p, length=length, signal=signal
    )
    found_S2K, p_negative_S2, negative_S2 = run(w=0.0)
    if omega:
        found_S2K, *_ = run(w=omega * negative_S2[:, 0].sum() / p_negative_S2[:, 0].sum())
    row_I = np.zeros(len(place_I), np.int64)
    row_I[place_V[1:]] = np.arange(1, len(place_V))
    return row_I[np.asarray(found_S2K)].swapaxes(0, 1)


def _past(sequences: Sequences, event_ST: np.ndarray, place_V: np.ndarray) -> Past:
    gap_code = features.gap_codes(np.array([0, 1000 * SESSION_S]), np.zeros(2, bool))[1]
    dwell_code = features.dwell_codes(np.array([3_000.0, 18_000.0]))
    ratio_code = features.watch_ratio_codes(np.ones(1), np.ones(1))[0]
    dwell_ST = sequences.dwell_E[event_ST]
    return Past(
        item=place_V[sequences.item_E[event_ST]],
        skip=dwell_ST < dwell_code[0],
        long_view=(dwell_ST >= dwell_code[1]) | (sequences.watch_ratio_E[event_ST] >= ratio_code),
        dislike=sequences.dislike_E[event_ST] == 2,
        new_session=sequences.gap_E[event_ST] >= gap_code,
    )


@functools.partial(jax.jit, static_argnames=("p", "length", "signal"))
def _lists(
    population: Population,
    past: Past,
    user_S: Any,
    known_I: Any,
    w: Any,
    p: Parameters,
    length: int,
    signal: str,
) -> tuple[Array, Array, Array]:
    """((S, 2, K) items, Σ b·p and Σ b over items, (S, 2) each), b the rate of dislikes."""
    items = population.items
    edge_I1 = jnp.append(0, items.popularity_I)
    share_I = jnp.diff(edge_I1)
    share_C = jnp.diff(edge_I1[items.start_C1])

    def one(x: tuple[Past, Array]) -> tuple[Array, Array, Array]:
        past_T, user = x
        traits = jax.tree.map(lambda one: one[user], population.users)
        belief = Belief(
            traits.taste_UW,
            jnp.zeros(len(share_C)),
            jnp.full(len(share_C), _logit(p.cluster_aversion)),
            jnp.full(traits.averse_creator_UA.shape, _logit(p.creator_aversion)),
        )

        def see(belief: Belief, event: Past) -> tuple[Belief, None]:
            return _see(belief, event, items, traits, p), None

        belief = lax.scan(see, belief, jax.tree.map(lambda x: x[:-1], past_T))[0]
        last = jax.tree.map(lambda x: x[-1], past_T)

        def after(given: Array) -> tuple[Array, Array, Array]:
            skip, dislike = given & (signal == "skip"), given & (signal == "dislike")
            event = last._replace(skip=skip, long_view=~skip, dislike=dislike)
            now = _see(belief, event, items, traits, p)
            annoyance = p.exit_skip if signal == "skip" else p.exit_dislike
            ends = p.session_exit * jnp.where(given, annoyance, 1)
            rested = now._replace(boredom_C=p.boredom_rest * now.boredom_C)
            a_I, b_I = (
                (1 - ends) * x + ends * y
                for x, y in zip(
                    *(_rates(one, items, traits, share_I, share_C, p) for one in (now, rested)),
                    strict=True,
                )
            )
            p_I = _stationary(a_I, w * b_I)
            listed_I = jnp.where(known_I, p_I, -1).at[past_T.item].set(-1)
            return lax.top_k(listed_I, length)[1], (b_I * p_I).sum(), b_I.sum()

        return jax.vmap(after)(jnp.array([False, True]))

    return lax.map(one, (past, jnp.asarray(user_S)), batch_size=50)


def _see(belief: Belief, event: Past, items: Any, traits: Any, p: Parameters) -> Belief:
    """Bayes on the aversions; taste and boredom as the user's own."""
    c, creator, latent_W = (
        x[event.item] for x in (items.cluster_I, items.creator_I, items.latent_IW)
    )
    rest = jnp.where(event.new_session, p.boredom_rest, 1.0)
    boredom_C = rest * belief.boredom_C
    affinity = (
        jnp.dot(belief.taste_W, latent_W) * len(latent_W) ** -0.5
        + p.quality_weight * items.quality_I[event.item]
        + traits.patience_U
        - p.boredom_loss * boredom_C[c]
    )
    of_cluster, of_creator = jnp.array([[0.0, 1, 0, 1], [0.0, 0, 1, 1]])  # averse to neither … both
    averse_affinity = affinity - p.aversion_loss * (of_cluster + of_creator)
    skip, long_view = _behaviour(averse_affinity, items.duration_ms_I[event.item], p)
    chance = jnp.where(event.long_view, long_view, jnp.maximum(1 - skip - long_view, 1e-3))
    chance = jnp.where(event.skip, skip, chance)
    dislike = _dislike(of_cluster, of_creator, p)
    neither, cluster, by, both = chance * jnp.where(event.dislike, dislike, 1 - dislike)
    q_cluster, q_creator = (
        jax.nn.sigmoid(belief.cluster_C[c]),
        jax.nn.sigmoid(belief.creator_A[creator]),
    )
    found_cluster = jnp.log((cluster + q_creator * (both - cluster))
                            / (neither + q_creator * (by - neither)))  # fmt: skip
    found_creator = jnp.log((by + q_cluster * (both - by))
                            / (neither + q_cluster * (cluster - neither)))  # fmt: skip
    enjoyed = event.long_view & ~event.dislike
    return Belief(
        belief.taste_W
        + p.taste_learning * enjoyed * (latent_W - belief.taste_W)
        + p.taste_return * (traits.taste_UW - belief.taste_W),
        (p.boredom_decay * boredom_C).at[c].add(1),
        belief.cluster_C.at[c].add(found_cluster),
        belief.creator_A.at[creator].add(found_creator),
    )


def _rates(
    belief: Belief, items: Any, traits: Any, share_I: Array, share_C: Array, p: Parameters
) -> tuple[Array, Array]:
    """(a_I, b_I): chance that the next event is a long view, or a dislike, of each item."""
    scale = len(belief.taste_W) ** -0.5
    interest_C = scale * items.centre_CW @ belief.taste_W
    logit_C = p.cluster_personalisation * interest_C - p.feed_boredom * belief.boredom_C
    chosen_C = jax.nn.softmax(logit_C + jnp.log(share_C))
    match_I = scale * items.latent_IW @ belief.taste_W
    wanted_I = share_I * jnp.exp(p.item_personalisation * match_I)
    wanted_C = jnp.zeros(len(share_C)).at[items.cluster_I].add(wanted_I)
    served_I = (1 - p.exploration) * (chosen_C / wanted_C)[items.cluster_I] * wanted_I
    served_I += p.exploration / len(share_I)
    affinity_I = (
        match_I
        + p.quality_weight * items.quality_I
        + traits.patience_U
        - p.boredom_loss * belief.boredom_C[items.cluster_I]
    )
    q_I = jax.nn.sigmoid(belief.cluster_C)[items.cluster_I]
    by_I = jax.nn.sigmoid(belief.creator_A)[items.creator_I]
    weights = (1 - q_I) * (1 - by_I), q_I + by_I - 2 * q_I * by_I, q_I * by_I
    long_view_I = sum(
        weight * _behaviour(affinity_I - n * p.aversion_loss, items.duration_ms_I, p)[1]
        for n, weight in enumerate(weights)
    )
    return served_I * long_view_I, served_I * _dislike(q_I, by_I, p)


def _behaviour(affinity: Array, duration_ms: Array, p: Parameters) -> tuple[Array, Array]:
    """Chances of a skip and of a long view at this affinity (negflax/world/behaviour.py)."""
    swipe = jax.nn.sigmoid(p.swipe_bias - p.swipe_slope * affinity)
    seconds = duration_ms / 1_000
    mean = p.watch_bias + p.watch_slope * affinity
    mean -= p.watch_length * jnp.log(seconds / p.duration_median_s)
    needed = jnp.log(jnp.minimum(p.long_view_s / seconds, 1))
    return swipe, (1 - swipe) * norm.sf((needed - mean) / p.watch_noise)


def _dislike(of_cluster: Array, of_creator: Array, p: Parameters) -> Array:
    """Chance of a dislike, given aversions or their probabilities."""
    content = (1 - p.dislike_cluster * of_cluster) * (1 - p.dislike_creator * of_creator)
    return 1 - (1 - p.dislike_noise) * content


def _stationary(a_I: Array, wb_I: Array) -> Array:
    """p_y = a_y / (μ + w·b_y), Σ p = 1: the objective's stationary point for small p."""

    def halve(_: int, bounds: Array) -> Array:
        middle = bounds.mean()
        above = (a_I / (middle + wb_I)).sum() > 1
        return jnp.where(above, jnp.array([middle, bounds[1]]), jnp.array([bounds[0], middle]))

    mu = lax.fori_loop(0, 40, halve, jnp.array([0.0, 1.0]) * a_I.sum()).mean()
    return a_I / (mu + wb_I)


def _logit(chance: float) -> float:
    return float(np.log(chance / (1 - chance)))
