"""What an observer who does not know the users' tastes holds possible, after their histories.

Samples of a user's lasting taste and patience, given what the feed has shown and what the user did
with it, by Hamiltonian Monte Carlo (Neal, "MCMC using Hamiltonian dynamics", 2011). The prior is
the population; aversions are summed out, as in negflax/simulate/observer.py.

Shapes: S users, T events, N samples, W taste, D = W + 1 coordinates: taste, and patience in
standard deviations.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from negflax.simulate.feed_chances import exposure, served
from negflax.simulate.ideal_answers import Tastes
from negflax.simulate.observer import Belief, Past, first_belief, see
from negflax.world import Parameters, Population
from negflax.world.population import Array

CHAINS, STEPS, KEPT, LEAPS, SIZE = 2, 40, 20, 6, 0.25
TOGETHER = 25  # users


@functools.partial(jax.jit, static_argnames="p")
def sample_tastes(
    population: Population, past_ST: Past, user_S: Array, key: Array, p: Parameters
) -> tuple[Tastes, Array]:
    """Returns N = CHAINS · KEPT samples of every user, and the share of accepted steps.

    The feedback on the last event is left out; that it was shown is not.

    Args:
      population: the world.
      past_ST: the users' events.
      user_S: indices of these users in the population.
      key: random key.
      p: mechanisms of the world.
    """

    def one(x: tuple[Past, Array, Array]) -> tuple[Array, Array]:
        past_T, user, key = x
        traits = jax.tree.map(lambda one: one[user], population.users)
        density = jax.value_and_grad(
            lambda at_D: _log_density(at_D, past_T, traits, population.items, p)
        )
        width = traits.taste_UW.shape[0] + 1
        chain = functools.partial(_chain, density, width)
        sample_CKD, accepted_C = jax.vmap(chain)(jax.random.split(key, CHAINS))
        return sample_CKD.reshape(-1, width), accepted_C.mean()

    keys_S = jax.random.split(key, len(user_S))
    sample_SND, accepted_S = lax.map(one, (past_ST, user_S, keys_S), batch_size=TOGETHER)
    tastes = Tastes(sample_SND[..., :-1], p.patience_spread * sample_SND[..., -1])
    return tastes, accepted_S.mean()


def _log_density(at_D: Array, past_T: Past, traits: Any, items: Any, p: Parameters) -> Array:
    """Logarithm of prior and likelihood, up to a constant."""
    traits = traits._replace(taste_UW=at_D[:-1], patience_U=p.patience_spread * at_D[-1])
    share_I, share_C = exposure(items)

    def step(carry: tuple[Belief, Array], event: Past) -> tuple[tuple[Belief, Array], Array]:
        belief, total = carry
        rest = jnp.where(event.new_session, p.boredom_rest, 1.0)
        asked = belief._replace(boredom_C=rest * belief.boredom_C)
        shown = jnp.log(served(asked, items, share_I, share_C, p)[event.item])
        belief, said = see(belief, event, items, traits, p)
        return (belief, total + shown + said), said

    first = first_belief(traits, len(share_C), p), jnp.zeros(())
    (_, total), said_T = lax.scan(step, first, past_T)
    return total - said_T[-1] - (at_D**2).sum() / 2


def _chain(density: Any, width: int, key: Array) -> tuple[Array, Array]:
    """The last KEPT samples (KEPT, D) of a chain from the prior's mean, and its acceptance."""

    def step(carry: tuple[Array, ...], key: Array) -> tuple[tuple[Array, ...], tuple[Array, Array]]:
        at_D, log_density, slope_D = carry
        keys = jax.random.split(key, 3)
        speed_D = jax.random.normal(keys[0], (width,))
        size = SIZE * jax.random.uniform(keys[1], minval=0.7, maxval=1.3)

        def leap(_: int, now: tuple[Array, ...]) -> tuple[Array, ...]:
            at_D, speed_D, _, slope_D = now
            speed_D = speed_D + size / 2 * slope_D
            at_D = at_D + size * speed_D
            log_density, slope_D = density(at_D)
            return at_D, speed_D + size / 2 * slope_D, log_density, slope_D

        new_D, new_speed_D, *new = lax.fori_loop(
            0, LEAPS, leap, (at_D, speed_D, log_density, slope_D)
        )
        energy = log_density - (speed_D**2).sum() / 2
        gain = new[0] - (new_speed_D**2).sum() / 2 - energy
        accepted = jnp.log(jax.random.uniform(keys[2])) < gain
        carry = jax.tree.map(
            lambda x, y: jnp.where(accepted, x, y), (new_D, *new), (at_D, log_density, slope_D)
        )
        return carry, (carry[0], accepted)

    start_D = jnp.zeros(width)
    _, (at_ND, accepted_N) = lax.scan(
        step, (start_D, *density(start_D)), jax.random.split(key, STEPS)
    )
    return at_ND[-KEPT:], accepted_N.mean()
