"""Lists that a model shows to the users online: scores, filters, candidates, serving layer.

Sizes as suffixes: U users, B users of a block, I items, L places of a page, R remembered items, N
remembered dislikes, M candidates, D width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from negflax.calibration.counts_on_device import Counted
from negflax.evaluate.baselines.personal_scores import RECENT
from negflax.model import Recommender
from negflax.serve.topk import top_k_of_scores
from negflax.simulate.arm import Arm
from negflax.simulate.walk import CANDIDATES, MEMORY, PLATFORM
from negflax.world import Context, Parameters, Population, Serving, behaviour, serve_list
from negflax.world.serving import UNWANTED

BLOCKS = ("", "items", "creators")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Settings of a simulated day; they are static arguments of the compiled program.

    Attributes:
      p: mechanisms of the world.
      model: model that serves; None: the logging platform serves.
      surface: `feed` or `home`.
      block: filter on the lists: `items` removes disliked items, `creators` all items of creators
        with a disliked item; empty: no filter.
      rounds: largest number of visits K of a user per day; further ones follow on the next day.
      users_at_a_time: number of users that are scored together.
      layer: serving layer between scores and lists.
    """

    p: Parameters
    model: Recommender | None = None
    surface: str = "feed"
    block: str = ""
    rounds: int = 64
    users_at_a_time: int = 128
    layer: Serving = PLATFORM

    @property
    def length(self) -> int:
        """List length L."""
        return self.p.page_items if self.surface == "home" else 1


class Live(NamedTuple):
    """State of the users of one arm between two visits.

    Attributes:
      world: state of the users in the world; `clock_s_U` is the time of the next visit, and
        `shown_UR` and `disliked_UR` describe the newest R items played, newest last.
      begins_U: bool, whether the next visit begins a session.
      since_s_U: float32, seconds since the start of the newest event; < 0: there was none.
      dropped_UN: int32, newest disliked items, −1 for none.
      state_UD: user states of the model.
      cell_UH: carry of the encoder.
      counted: feedback counts of the users, where the arm has a calibration.
    """

    world: behaviour.UserState
    begins_U: jax.Array
    since_s_U: jax.Array
    dropped_UN: jax.Array
    state_UD: jax.Array
    cell_UH: jax.Array
    counted: Counted | None = None


def lists(
    key: jax.Array,
    population: Population,
    arm: Arm,
    plan: Plan,
    live: Live,
    online_U: jax.Array,
) -> jax.Array:
    """Returns the lists of the users online, (U, L) int32; zeros for the others.

    Args:
      key: random key of the serving layer; the user's index is folded in.
      population: users and items.
      arm: arrays of the plan's model.
      plan: model, surface, filter and serving layer.
      live: state of the users.
      online_U: bool, which users are online.
    """
    items, model = population.items, plan.model
    weights_VD, bias_V = model.output_vectors(arm.rows[model.output_table][: model.num_rows])
    weights_ID, bias_I = weights_VD[1:], bias_V[1:]  # row 0 is not an item
    creators = population.users.averse_creator_UA.shape[1]

    def some(state_BD, counted, shown_BR, dropped_BN, now_B, user_B):
        score_BI = state_BD @ weights_ID.T + bias_I
        for kind, one in arm.calibration.items():
            kind_V, shift = one.shift(counted, kind)
            score_BI += shift.bias_GR[shift.slot_K[kind_V[1:]]].T
        if arm.terms is not None:
            _, shift = arm.terms.shift(1 + dropped_BN[:, -RECENT:])  # −1, none, becomes row 0
            score_BI += shift.bias_GR[1:].T
        score_BI = jnp.where(items.release_s_I <= now_B[:, None], score_BI, UNWANTED)
        score_BI = _without(score_BI, shown_BR)
        if plan.block == "items":
            score_BI = _without(score_BI, dropped_BN)
        if plan.block == "creators":
            creator_BN = jnp.where(dropped_BN >= 0, items.creator_I[dropped_BN], -1)
            wanted_BA = _without(jnp.zeros((len(user_B), creators)), creator_BN) == 0
            score_BI = jnp.where(wanted_BA[:, items.creator_I], score_BI, UNWANTED)
        best_BM, item_BM = top_k_of_scores(score_BI, min(CANDIDATES, len(bias_I)))

        def one(user, item_M, score_M, shown_R, now):
            context = Context(items.release_s_I, now[None], items.cluster_I, shown_R[None])
            list_1L, _ = serve_list(
                jax.random.fold_in(key, user),
                item_M[None].astype(jnp.int32),
                score_M[None],
                plan.length,
                plan.layer,
                context,
            )
            return list_1L[0]

        return jax.vmap(one)(user_B, item_BM, best_BM, shown_BR[:, -MEMORY:], now_B)

    user_U = jnp.arange(len(online_U), dtype=jnp.int32)
    world = live.world
    known = live.state_UD, live.counted, world.shown_UR, live.dropped_UN, world.clock_s_U, user_U
    nothing_UL = jnp.zeros((len(online_U), plan.length), jnp.int32)
    return of_those(online_U, some, known, nothing_UL, plan.users_at_a_time)


def _without(score_BI: jax.Array, place_BR: jax.Array) -> jax.Array:
    """Returns the scores with UNWANTED at the given items; −1 stands for no item."""
    place_BR = jnp.where(place_BR >= 0, place_BR, score_BI.shape[1])  # out of range, so dropped
    row_B1 = jnp.arange(len(score_BI))[:, None]
    return score_BI.at[row_B1, place_BR].set(UNWANTED, mode="drop")


def of_those(
    mask_U: jax.Array, function: Callable, operands: Any, otherwise: Any, block: int
) -> Any:
    """Returns `function(*operands)` for the users of the mask and `otherwise` for the others.

    Users of the mask are sorted to the front, and blocks without any are skipped, so the cost of a
    round depends on the number of its visitors. The function must treat users independently.
    """
    users = len(mask_U)
    block = min(block, users)
    order_U = jnp.argsort(~mask_U, stable=True)
    # The last block overlaps the one before it, so some users are computed twice.
    blocks = -(-users // block)
    place_NB = jnp.minimum(jnp.arange(blocks)[:, None] * block, users - block) + jnp.arange(block)

    def one(place_B):
        user_B = order_U[place_B]
        return lax.cond(
            mask_U[user_B].any(),
            lambda: function(*jax.tree.map(lambda x: x[user_B], operands)),
            lambda: jax.tree.map(lambda x: x[user_B], otherwise),
        )

    found = lax.map(one, place_NB)

    def back(new, old):
        new = jnp.zeros_like(old).at[order_U[place_NB]].set(new)
        return jnp.where(mask_U.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    return jax.tree.map(back, found, otherwise)
