"""Simulated consumption: the lists that a trained model gives to many users, in all branches.

A user is represented by the encoder's state, updated event by event, and by the items consumed so
far. The branches of a pair share a history and differ only in the feedback on item k. Later random
numbers are drawn per (user, step), so they are the same in all branches. The branches run through
the same program with the same shapes, so equal inputs give bitwise equal results.

Shapes: S users, T steps, V catalogue rows, D width, K list length, M candidates, N consumed items.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from negflax.model import Recommender
from negflax.simulate.arm import BRANCHES, Arm, Events, best, feedback, read
from negflax.simulate.kind_mass import kind_mass
from negflax.world.serving import UNWANTED, Context, Serving, serve_list

SIGNALS = ("dislike", "skip")  # signals whose headline, later lists and doses can be measured
DOSES = 3  # largest number of signals; as many of the last items are from one cluster
CANDIDATES = 50  # number of a user's best items that the serving layer chooses from
PLATFORM = Serving(temperature=1.0, cap=3, exploration=0.05)
MEMORY = 10  # number of newest items that count against the cap


@dataclasses.dataclass(frozen=True)
class Plan:
    """Sizes of a simulation; they are static arguments of the compiled program.

    Attributes:
      k: number of the item at which histories branch.
      signal: one of SIGNALS.
      own: whether users consume the model's own lists, through a serving layer; otherwise they
        consume the items of the log.
      later: number of lists after the branch, k + 1 included, while users go on consuming.
      length: length K of the lists at k + 1.
      later_length: length K of the later lists.
      block: number of users computed at a time.
    """

    k: int = 50
    signal: str = "dislike"
    own: bool = False
    later: int = 20
    length: int = 100
    later_length: int = 10
    block: int = 250


class Walk(NamedTuple):
    """The lists of a simulation, as int32 catalogue rows, and probabilities.

    Attributes:
      branch_BSK: lists at k + 1, one per branch of BRANCHES.
      mass_BS2: probability of item k's cluster and of its creator then (kind_mass.py), float32.
      later_2JSK: lists at k + 1 … k + J, without and with the signal.
      dose_4SK: lists after 0 to 3 signals on the last three items, all of one cluster.
      item_S: item k.
      before_SN: items before item k.
    """

    branch_BSK: jax.Array
    mass_BS2: jax.Array
    later_2JSK: jax.Array
    dose_4SK: jax.Array
    item_S: jax.Array
    before_SN: jax.Array


@functools.partial(jax.jit, static_argnames=("model", "plan"))
def walk(
    arm: Arm, prefix_ST: Events, after_SJ: Events, key: jax.Array, *, model: Recommender, plan: Plan
) -> Walk:
    """Simulates all pairs in one program.

    Args:
      arm: arrays of the model.
      prefix_ST: logged events 1 … k; S is a multiple of the block. With `own` only their feedback
        is used, as random behaviour, not their items. The branches replace the feedback on item k.
      after_SJ: feedback codes after item k; their items are not used.
      key: random key of the serving layer.
      model: model of the arm.
      plan: sizes.
    """
    blocks = len(prefix_ST.item) // plan.block

    def cut(events: Events) -> Events:
        return jax.tree.map(lambda x: x.reshape(blocks, plan.block, *x.shape[1:]), events)

    def one(part: tuple) -> Walk:
        return _walk_block(model, plan, arm, *part)

    found = lax.map(one, (cut(prefix_ST), cut(after_SJ), jax.random.split(key, blocks)))
    # Merge the axis of blocks into that of users, which is the last but one.
    joined = {
        name: jnp.moveaxis(x, 0, x.ndim - 3).reshape(*x.shape[1:-2], -1, x.shape[-1])
        for name, x in found._asdict().items()
        if name != "item_S"
    }
    return Walk(item_S=found.item_S.reshape(-1), **joined)


def _walk_block(
    model: Recommender, plan: Plan, arm: Arm, prefix_ST: Events, after_SJ: Events, key: jax.Array
) -> Walk:
    users, k = len(prefix_ST.item), plan.k
    nothing_S1 = jnp.zeros((users, 1), jnp.int32)
    begin = read(model, arm, Events(*[nothing_S1] * len(Events._fields)), None)
    # MEMORY empty places come first, so that there are always MEMORY newest items to slice.
    empty_SN = jnp.zeros((users, MEMORY + k + plan.later), jnp.int32)

    def served(carry: tuple, x: tuple) -> tuple[tuple, jax.Array]:
        """Consumes one item of the arm's own list; also returns the candidates."""
        (state_SD, last), taken_SN = carry
        t, codes_S = x
        candidates = best(model, arm, state_SD, taken_SN, CANDIDATES)
        item_S = _serve(jax.random.fold_in(key, t), model, arm, candidates, taken_SN, t)
        after = read(model, arm, _column(codes_S._replace(item=item_S)), last)
        return (after, taken_SN.at[:, MEMORY + t].set(item_S)), candidates[0]

    def consume_logged(carry: tuple, first: int, stop: int) -> tuple:
        (_, last), taken_SN = carry
        part = jax.tree.map(lambda x: x[:, first:stop], prefix_ST)
        taken_SN = taken_SN.at[:, MEMORY + first : MEMORY + stop].set(part.item)
        return read(model, arm, part, last), taken_SN

    def consume_served(carry: tuple, first: int, stop: int) -> tuple:
        codes = jax.tree.map(lambda x: x[:, first:stop].T, prefix_ST)
        steps = jnp.arange(first, stop), codes
        return lax.scan(lambda *x: (served(*x)[0], None), carry, steps)[0]

    go = consume_served if plan.own else consume_logged
    early = go((begin, empty_SN), 0, k - DOSES)
    (state_SD, last), taken_SN = go(early, k - DOSES, k - 1)
    codes_k = jax.tree.map(lambda x: x[:, k - 1], prefix_ST)
    item_S = codes_k.item
    if plan.own:
        candidates = best(model, arm, state_SD, taken_SN, CANDIDATES)
        item_S = _serve(jax.random.fold_in(key, k - 1), model, arm, candidates, taken_SN, k - 1)
    before_SN, taken_SN = taken_SN, taken_SN.at[:, MEMORY + k - 1].set(item_S)
    codes_k = codes_k._replace(item=item_S)

    def list_of(branch: Events) -> tuple[jax.Array, jax.Array]:
        user, _ = read(model, arm, _column(branch), last)
        mass_S2 = kind_mass(model, arm, user, taken_SN, item_S)
        return best(model, arm, user, taken_SN, plan.length)[0], mass_S2

    def lists_after(branch: Events) -> jax.Array:
        codes = jax.tree.map(lambda x: x.T, after_SJ)
        start = read(model, arm, _column(branch), last), taken_SN
        row_JSM = lax.scan(served, start, (k + jnp.arange(plan.later), codes))[1]
        return row_JSM[:, :, : plan.later_length]

    branches = [feedback(arm, codes_k, name) for name in BRANCHES]
    both = [branches[0], branches[BRANCHES.index(plan.signal)]]
    related_S2 = _related(jax.random.fold_in(key, 2 * k), arm, item_S, taken_SN)
    last_items = [related_S2[:, 0], related_S2[:, 1], item_S]
    taken_too_SN = jnp.concatenate([early[1], related_S2, item_S[:, None]], axis=1)

    def list_after_dose(dose: jax.Array) -> jax.Array:
        without, signalled = (
            _stacked([feedback(arm, codes_k._replace(item=x), name) for x in last_items], axis=1)
            for name in ("none", plan.signal)
        )
        given_3 = dose >= DOSES - jnp.arange(DOSES)
        part = jax.tree.map(lambda x, y: jnp.where(given_3, y, x), without, signalled)
        state_SD, _ = read(model, arm, part, early[0][1])
        return best(model, arm, state_SD, taken_too_SN, plan.length)[0]

    branch_BSK, mass_BS2 = lax.map(list_of, _stacked(branches))
    return Walk(
        branch_BSK=branch_BSK,
        mass_BS2=mass_BS2,
        later_2JSK=lax.map(lists_after, _stacked(both)),
        dose_4SK=lax.map(list_after_dose, jnp.arange(DOSES + 1)),
        item_S=item_S,
        before_SN=before_SN[:, MEMORY : MEMORY + k - 1],
    )


def _serve(
    key: jax.Array, model: Recommender, arm: Arm, candidates: tuple, taken_SN: jax.Array, t: Any
) -> jax.Array:
    """Returns the item that the platform shows next, of the model's candidates, (S,)."""
    row_SM, score_SM = candidates
    recent_SR = lax.dynamic_slice_in_dim(taken_SN, t, MEMORY, axis=1)
    context = Context(
        released_I=jnp.zeros(model.num_rows).at[0].set(jnp.inf),
        cluster_I=arm.cluster_V,
        recent_UR=jnp.where(recent_SR > 0, recent_SR, -1),
    )
    score_SM = jnp.maximum(score_SM, UNWANTED)
    item_S1, _ = serve_list(key, row_SM, score_SM, 1, PLATFORM, context)
    return item_S1[:, 0]


def _related(key: jax.Array, arm: Arm, item_S: jax.Array, taken_SN: jax.Array) -> jax.Array:
    """Draws unconsumed items of item k's cluster, (S, DOSES − 1); any items if too few are left."""
    luck_SV = jax.random.uniform(key, (len(item_S), len(arm.cluster_V)))
    luck_SV += arm.cluster_V == arm.cluster_V[item_S][:, None]
    luck_SV = luck_SV.at[:, 0].set(-1.0)
    luck_SV = luck_SV.at[jnp.arange(len(item_S))[:, None], taken_SN].set(-1.0)
    return lax.top_k(luck_SV, DOSES - 1)[1].astype(jnp.int32)


def _column(events_S: Events) -> Events:
    return jax.tree.map(lambda x: x[:, None], events_S)


def _stacked(events: list[Events], axis: int = 0) -> Events:
    return jax.tree.map(lambda *x: jnp.stack(x, axis), *events)
