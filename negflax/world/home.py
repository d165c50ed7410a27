"""The home page: a list of items, of which the user looks at some and opens at most one.

On the feed every item plays automatically, so every user gives feedback on it. Here an item plays
only if the user looks at it, which is less likely further down the page (position bias), and clicks
it. Items that were looked at but not opened may be dismissed, averse ones more often.

Sizes as suffixes: U users, L places of the page.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from negflax.world import behaviour
from negflax.world.behaviour import Feedback, UserState
from negflax.world.parameters import Parameters
from negflax.world.population import F32, Array, Population


class Visit(NamedTuple):
    """The users' actions on one page.

    Attributes:
      looked_UL: bool, whether the user looked at the place.
      click_UL: bool, at most one per user, among those looked at.
      dismissal_UL: bool, "not interested", among those looked at and not opened.
      item_U: int32, the opened item; −1 if none was opened.
      feedback: feedback on the opened item; all 0 if none was opened.
    """

    looked_UL: Array
    click_UL: Array
    dismissal_UL: Array
    item_U: Array
    feedback: Feedback


def visit(
    key: Array, population: Population, state: UserState, item_UL: Array, p: Parameters
) -> Visit:
    """Shows every user one page and draws their actions.

    Args:
      key: random key of the page.
      population: traits of U users and the catalogue.
      state: present taste, boredom and fatigue.
      item_UL: int32 indices into the catalogue, from the top of the page.
      p: mechanisms of the world.
    """
    users, places = item_UL.shape
    keys = jax.random.split(key, 3)
    uniform_3UL = jax.random.uniform(keys[0], (3, users, places), F32)
    seen_L = (1 + jnp.arange(places, dtype=F32)) ** F32(-p.position_decay)
    looked_UL = uniform_3UL[0] < seen_L

    def judge(item_U: Array) -> tuple[Array, Array]:
        averse_U = jnp.logical_or(*behaviour.aversions(population, item_U))
        return behaviour.affinity(population, state, item_U, p), averse_U

    affinity_UL, averse_UL = jax.vmap(judge, in_axes=1, out_axes=1)(item_UL)
    wanted_UL = looked_UL & (
        uniform_3UL[1] < jax.nn.sigmoid(p.click_bias + p.click_slope * affinity_UL)
    )
    # Of several wanted items the user opens the one they want most.
    best_U = jnp.argmax(jnp.where(wanted_UL, affinity_UL, -jnp.inf), axis=1)
    click_UL = wanted_UL & (jnp.arange(places) == best_U[:, None])
    dismissal_UL = (
        looked_UL
        & ~click_UL
        & (uniform_3UL[2] < p.dismissal_skip + p.dismissal_averse * averse_UL.astype(F32))
    )
    opened_U = click_UL.any(axis=1)
    item_U = jnp.take_along_axis(item_UL, best_U[:, None], axis=1)[:, 0]
    feedback = behaviour.respond(keys[1], population, state, item_U, p)
    feedback = jax.tree.map(lambda x: jnp.where(opened_U, x, jnp.zeros_like(x)), feedback)
    return Visit(looked_UL, click_UL, dismissal_UL, jnp.where(opened_U, item_U, -1), feedback)
