"""The ideal observer's lists, given what it knows of the users: one compiled program.

Shapes: S users, T events, I items of the world in its own order, C clusters, A aims, K list length,
N samples of a user's taste, W width of tastes.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from negflax.simulate.feed_chances import exposure
from negflax.simulate.observer import Belief, Past, first_belief, rates, see
from negflax.world import Parameters, Population
from negflax.world.population import Array


class Tastes(NamedTuple):
    """What the observer holds possible about each of S users: N equally likely samples.

    Attributes:
      taste_SNW: lasting tastes.
      patience_SN: patience.
    """

    taste_SNW: Array
    patience_SN: Array


class Asked(NamedTuple):
    """List length, signal, and for each aim whether the session goes on: all compiled in."""

    length: int
    signal: str
    goes_on_A: tuple[bool, ...]


@functools.partial(jax.jit, static_argnames=("p", "asked"))
def answers(
    population: Population,
    histories: tuple[Past, Array, Tastes],
    known_I: Any,
    w_A: Array,
    p: Parameters,
    asked: Asked,
) -> tuple[Array, Array, Array, Array]:
    """Returns lists (S, 2, A, K) of items for A aims, mass (S, 2, A, 2), and Σ b·p and Σ b, (S,).

    Mass is as in `Ideal`; b is the rate of dislikes of an item without the signal, p that of the
    first aim. `histories` has the events of S users, the indices of these users in the population,
    and what is known of their tastes.
    """
    items = population.items
    share_I, share_C = exposure(items)

    def one(x: tuple[Past, Array, Tastes]) -> tuple[Array, Array, Array, Array]:
        past_T, user, known = x
        lasting = jax.tree.map(lambda one: one[user], population.users)
        last = jax.tree.map(lambda x: x[-1], past_T)
        annoyance = p.exit_skip if asked.signal == "skip" else p.exit_dislike
        related_2I = jnp.stack(
            [x == x[last.item] for x in (items.cluster_I, items.creator_I)]
        ).astype(jnp.float32)

        def expected(taste_W: Array, patience: Array) -> tuple[Array, Array]:
            """Chances (2,) of the last feedback, without and with the signal; rates (2, 2, 2, I).

            Rates are by signal, by whether the session goes on for certain, and of long views and
            dislikes.
            """
            traits = lasting._replace(taste_UW=taste_W, patience_U=patience)

            def step(belief: Belief, event: Past) -> tuple[Belief, None]:
                return see(belief, event, items, traits, p)[0], None

            before = jax.tree.map(lambda x: x[:-1], past_T)
            belief = lax.scan(step, first_belief(traits, len(share_C), p), before)[0]

            def after(given: Array) -> tuple[Array, Array]:
                skip, dislike = (given & (asked.signal == name) for name in ("skip", "dislike"))
                event = last._replace(skip=skip, long_view=~skip, dislike=dislike)
                now, log_chance = see(belief, event, items, traits, p)
                ends = p.session_exit * jnp.where(given, annoyance, 1)
                rested = now._replace(
                    boredom_C=p.boredom_rest * now.boredom_C, session=jnp.zeros(())
                )
                goes_on, rests = (
                    jnp.stack(rates(one, items, traits, share_I, share_C, p))
                    for one in (now, rested)
                )
                return jnp.exp(log_chance), jnp.stack(
                    [(1 - ends) * goes_on + ends * rests, goes_on]
                )

            return jax.vmap(after)(jnp.array([False, True]))

        chance_N2, rates_N222I = jax.vmap(expected)(*known)
        weight_N2 = chance_N2 / chance_N2.sum(axis=0)  # of each sample, given the last feedback
        rates_222I = jnp.einsum("ns,nsgri->sgri", weight_N2, rates_N222I)

        def answer(rates_22I: Array) -> tuple[Array, Array, Array, Array]:
            listed_AK, mass_A2, sums = [], [], []
            for w, goes_on in zip(w_A, asked.goes_on_A, strict=True):
                a_I, b_I = rates_22I[int(goes_on)]
                p_I = stationary(a_I, w * b_I)
                listed_I = jnp.where(known_I, p_I, -1).at[past_T.item].set(-1)
                listed_AK.append(lax.top_k(listed_I, asked.length)[1])
                able_I = jnp.maximum(listed_I, 0)
                mass_A2.append(related_2I @ able_I / able_I.sum())
                sums.append(((b_I * p_I).sum(), b_I.sum()))
            return jnp.stack(listed_AK), jnp.stack(mass_A2), *sums[0]

        listed_2AK, mass_2A2, p_negative_2, negative_2 = jax.vmap(answer)(rates_222I)
        return listed_2AK, mass_2A2, p_negative_2[0], negative_2[0]

    samples = histories[2].patience_SN.shape[1]
    return lax.map(one, histories, batch_size=max(1, 50 // samples))


def stationary(a_I: Array, wb_I: Array) -> Array:
    """Solves p_y = a_y / (μ + w·b_y) with Σ p = 1, the stationary point for small p."""

    def halve(_: int, bounds: Array) -> Array:
        middle = bounds.mean()
        above = (a_I / (middle + wb_I)).sum() > 1
        return jnp.where(above, jnp.array([middle, bounds[1]]), jnp.array([bounds[0], middle]))

    mu = lax.fori_loop(0, 40, halve, jnp.array([0.0, 1.0]) * a_I.sum()).mean()
    return a_I / (mu + wb_I)
