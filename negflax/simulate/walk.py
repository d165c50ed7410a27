"""Simulated users walk through lists: one trained model, many users at once, branches in step.

A user is the encoder's state, carried event by event, and the items consumed so far. After the same
prefix the branches of a pair differ in the feedback on item k alone; whatever is random later is
drawn by (user, step), so that all branches have the same luck. Branches go through the same program
on the same shapes, one after the other: where nothing differs, nothing differs in the last bit.

Shapes: S users, T steps, V catalogue rows, D width, K list length, M candidates, N consumed items.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from negflax.data import Batch
from negflax.model import Recommender
from negflax.world.serving import UNWANTED, Serving, serve_list

BRANCHES = ("none", "dislike", "skip", "dismissal")
SIGNALS = ("dislike", "skip")  # what later lists and doses, and the headline, are about
DOSES = 3  # signals at most; as many last items are of one cluster
CANDIDATES = 50  # of a user's best items, among which the serving layer chooses
PLATFORM = Serving(temperature=1.0, cap=3, exploration=0.05)
MEMORY = 10  # newest items that count against the cap


class Events(NamedTuple):
    """Past events as the encoder reads them: int32 rows and codes (negflax/data/features.py)."""

    item: jax.Array
    dislike: jax.Array
    dwell: jax.Array
    watch_ratio: jax.Array
    gap: jax.Array
    surface: jax.Array
    dismissal: jax.Array


class Arm(NamedTuple):
    """What the simulation reads of a trained model and its catalogue.

    Attributes:
      dense: parameters of the encoder.
      rows: table → (V or more, width), composed.
      creator_V: int32 creators, 0 unknown.
      cluster_V: int32 first clusters, 0 unknown.
      whole_V: codes of a view of the whole item, (dwell, watch ratio), each (V,) int32.
      skip_2: the same two codes for a skip.
    """

    dense: Any
    rows: dict[str, jax.Array]
    creator_V: jax.Array
    cluster_V: jax.Array
    whole_V: tuple[jax.Array, jax.Array]
    skip_2: jax.Array


@dataclasses.dataclass(frozen=True)
class Plan:
    """Sizes of a simulation, known to the compiler.

    Attributes:
      k: the item at which histories branch.
      signal: one of SIGNALS.
      own: users consume the model's own lists through a serving layer; else what the log holds.
      later: lists after the branching, k + 1 included, while users go on consuming.
      length: K of the lists at k + 1.
      later_length: K of the later ones.
      block: users at a time.
    """

    k: int = 50
    signal: str = "dislike"
    own: bool = False
    later: int = 20
    length: int = 100
    later_length: int = 10
    block: int = 250


class Walk(NamedTuple):
    """What was listed, int32.

    Attributes:
      branch_BSK: lists at k + 1, by BRANCHES.
      later_2JSK: lists at k + 1 … k + J, without and with the signal.
      dose_4SK: lists after 0 to 3 signals on the last three items, all of one cluster.
      item_S: item k.
      before_SN: the items before it.
    """

    branch_BSK: jax.Array
    later_2JSK: jax.Array
    dose_4SK: jax.Array
    item_S: jax.Array
    before_SN: jax.Array


@functools.partial(jax.jit, static_argnames=("model", "plan"))
def walk(
    arm: Arm, prefix_ST: Events, after_SJ: Events, key: jax.Array, *, model: Recommender, plan: Plan
) -> Walk:
    """All pairs in one program.

    Args:
      arm: the model.
      prefix_ST: logged events 1 … k, S a multiple of the block. With `own` their codes alone are
        used: a random behaviour. The feedback on item k is the branches'.
      after_SJ: codes of the behaviour after item k; items are not used.
      key: random key of the serving layer.
      model: of the arm.
      plan: sizes.
    """
    blocks = len(prefix_ST.item) // plan.block

    def cut(events: Events) -> Events:
        return jax.tree.map(lambda x: x.reshape(blocks, plan.block, *x.shape[1:]), events)

    def one(part: tuple) -> Walk:
        return _walk_block(model, plan, arm, *part)

    found = lax.map(one, (cut(prefix_ST), cut(after_SJ), jax.random.split(key, blocks)))
    # Users are the second axis behind the blocks, or the only one.
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
    begin = _read(model, arm, Events(*[nothing_S1] * len(Events._fields)), None)
    # MEMORY empty places first, so that the newest items are always a slice.
    empty_SN = jnp.zeros((users, MEMORY + k + plan.later), jnp.int32)

    def consume(carry: tuple, step: tuple) -> tuple[tuple, None]:
        (state_SD, last), taken_SN = carry
        t, codes_S = step
        candidates = _best(model, arm, state_SD, taken_SN, CANDIDATES)
        item_S = codes_S.item
        if plan.own:
            item_S = _serve(jax.random.fold_in(key, t), model, arm, candidates, taken_SN, t)
        read = _read(model, arm, _column(codes_S._replace(item=item_S)), last)
        return (read, taken_SN.at[:, MEMORY + t].set(item_S)), None

    def consume_logged(carry: tuple, first: int, stop: int) -> tuple:
        (_, last), taken_SN = carry
        part = jax.tree.map(lambda x: x[:, first:stop], prefix_ST)
        taken_SN = taken_SN.at[:, MEMORY + first : MEMORY + stop].set(part.item)
        return _read(model, arm, part, last), taken_SN

    def consume_served(carry: tuple, first: int, stop: int) -> tuple:
        codes = jax.tree.map(lambda x: x[:, first:stop].T, prefix_ST)
        return lax.scan(consume, carry, (jnp.arange(first, stop), codes))[0]

    go = consume_served if plan.own else consume_logged
    early = go((begin, empty_SN), 0, k - DOSES)
    (state_SD, last), taken_SN = go(early, k - DOSES, k - 1)
    codes_k = jax.tree.map(lambda x: x[:, k - 1], prefix_ST)
    item_S = codes_k.item
    if plan.own:
        candidates = _best(model, arm, state_SD, taken_SN, CANDIDATES)
        item_S = _serve(jax.random.fold_in(key, k - 1), model, arm, candidates, taken_SN, k - 1)
    before_SN, taken_SN = taken_SN, taken_SN.at[:, MEMORY + k - 1].set(item_S)
    codes_k = codes_k._replace(item=item_S)

    def list_of(branch: Events) -> jax.Array:
        state_SD, _ = _read(model, arm, _column(branch), last)
        return _best(model, arm, state_SD, taken_SN, plan.length)[0]

    def lists_after(branch: Events) -> jax.Array:
        def step(carry: tuple, x: tuple) -> tuple[tuple, jax.Array]:
            (state_SD, last), taken_SN = carry
            t, codes_S = x
            candidates = _best(model, arm, state_SD, taken_SN, CANDIDATES)
            item_S = _serve(jax.random.fold_in(key, t), model, arm, candidates, taken_SN, t)
            read = _read(model, arm, _column(codes_S._replace(item=item_S)), last)
            return (read, taken_SN.at[:, MEMORY + t].set(item_S)), candidates[0]

        codes = jax.tree.map(lambda x: x.T, after_SJ)
        start = _read(model, arm, _column(branch), last), taken_SN
        row_JSM = lax.scan(step, start, (k + jnp.arange(plan.later), codes))[1]
        return row_JSM[:, :, : plan.later_length]

    branches = [feedback(arm, codes_k, name) for name in BRANCHES]
    both = [branches[0], branches[BRANCHES.index(plan.signal)]]
    kin_S2 = _kin(jax.random.fold_in(key, 2 * k), arm, item_S, taken_SN)
    last_items = [kin_S2[:, 0], kin_S2[:, 1], item_S]
    taken_too_SN = jnp.concatenate([early[1], kin_S2, item_S[:, None]], axis=1)

    def list_after_dose(dose: jax.Array) -> jax.Array:
        without, signalled = (
            _stacked([feedback(arm, codes_k._replace(item=x), name) for x in last_items], axis=1)
            for name in ("none", plan.signal)
        )
        given_3 = dose >= DOSES - jnp.arange(DOSES)
        part = jax.tree.map(lambda x, y: jnp.where(given_3, y, x), without, signalled)
        state_SD, _ = _read(model, arm, part, early[0][1])
        return _best(model, arm, state_SD, taken_too_SN, plan.length)[0]

    return Walk(
        branch_BSK=lax.map(list_of, _stacked(branches)),
        later_2JSK=lax.map(lists_after, _stacked(both)),
        dose_4SK=lax.map(list_after_dose, jnp.arange(DOSES + 1)),
        item_S=item_S,
        before_SN=before_SN[:, MEMORY : MEMORY + k - 1],
    )


def feedback(arm: Arm, codes_S: Events, branch: str) -> Events:
    """Item k with the feedback of a branch: a view of the whole, a skip, or "not interested".

    A dislike comes on top of a whole view, a dismissal on top of a skip: one bit more each. Where
    the log does not know whether an item was dismissed, no branch does.
    """
    dwell_S, ratio_S = (x[codes_S.item] for x in arm.whole_V)
    if branch in ("skip", "dismissal"):
        dwell_S = jnp.where(dwell_S > 0, arm.skip_2[0], 0)
        ratio_S = jnp.where(ratio_S > 0, arm.skip_2[1], 0)
    disliked, dismissed = (2 if branch == name else 1 for name in ("dislike", "dismissal"))
    return codes_S._replace(
        dislike=jnp.full_like(codes_S.item, disliked),
        dismissal=jnp.where(codes_S.dismissal > 0, dismissed, 0),
        dwell=dwell_S,
        watch_ratio=ratio_S,
    )


def _read(model: Recommender, arm: Arm, events_ST: Events, last: Any) -> tuple[jax.Array, Any]:
    """(states (S, D) after the events, what the encoder carries); `last` None: a new user."""
    item_ST = events_ST.item
    none_STL = jnp.zeros((*item_ST.shape, 1), jnp.int32)
    batch = Batch(
        item_ids_BT=item_ST,
        dislike_BT=events_ST.dislike,
        dwell_BT=events_ST.dwell,
        watch_ratio_BT=events_ST.watch_ratio,
        gap_BT=events_ST.gap,
        surface_BT=events_ST.surface,
        dismissal_BT=events_ST.dismissal,
        creator_BT=arm.creator_V[item_ST],
        cluster_BT=arm.cluster_V[item_ST],
        reset_BT=jnp.zeros(item_ST.shape, bool).at[:, 0].set(last is None),
        label_ids_BTL=none_STL,
        positive_weight_BTL=none_STL.astype(jnp.float32),
        negative_weight_BTL=none_STL.astype(jnp.float32),
    )
    return encode(model, arm, batch, last)


def encode(model: Recommender, arm: Arm, batch: Batch, last: Any) -> tuple[jax.Array, Any]:
    """`read` of a batch of histories, as negflax/data/batches.py makes them."""
    vectors = {
        use: arm.rows[name][ids]
        for name, uses in model.lookups(batch, None).items()
        for use, ids in uses.items()
        if use != "label"
    }
    states_STD, last = model.states(arm.dense, vectors, batch, start_BH=last)
    return states_STD[:, -1], last


def _best(
    model: Recommender, arm: Arm, state_SD: jax.Array, taken_SN: jax.Array, length: int
) -> tuple[jax.Array, jax.Array]:
    """The best items that were not consumed: rows (S, M) int32 and scores (S, M)."""
    weights_VD, bias_V = model.output_vectors(arm.rows[model.output_table][: model.num_rows])
    score_SV = state_SD @ weights_VD.T + bias_V.at[0].set(-jnp.inf)
    score_SV = score_SV.at[jnp.arange(len(state_SD))[:, None], taken_SN].set(-jnp.inf)
    score_SM, row_SM = lax.top_k(score_SV, length)
    return row_SM.astype(jnp.int32), score_SM


def _serve(
    key: jax.Array, model: Recommender, arm: Arm, candidates: tuple, taken_SN: jax.Array, t: Any
) -> jax.Array:
    """(S,) the item that a platform shows next, given the model's candidates."""
    row_SM, score_SM = candidates
    recent_SR = lax.dynamic_slice_in_dim(taken_SN, t, MEMORY, axis=1)
    item_S1, _ = serve_list(
        key,
        row_SM,
        jnp.maximum(score_SM, UNWANTED),
        1,
        PLATFORM,
        cluster_I=arm.cluster_V,
        recent_UR=jnp.where(recent_SR > 0, recent_SR, -1),
        released_I=jnp.zeros(model.num_rows).at[0].set(jnp.inf),
    )
    return item_S1[:, 0]


def _kin(key: jax.Array, arm: Arm, item_S: jax.Array, taken_SN: jax.Array) -> jax.Array:
    """(S, DOSES − 1) random items of item k's cluster, not consumed; any item where it has none."""
    luck_SV = jax.random.uniform(key, (len(item_S), len(arm.cluster_V)))
    luck_SV += arm.cluster_V == arm.cluster_V[item_S][:, None]
    luck_SV = luck_SV.at[:, 0].set(-1.0)
    luck_SV = luck_SV.at[jnp.arange(len(item_S))[:, None], taken_SN].set(-1.0)
    return lax.top_k(luck_SV, DOSES - 1)[1].astype(jnp.int32)


def _column(events_S: Events) -> Events:
    return jax.tree.map(lambda x: x[:, None], events_S)


def _stacked(events: list[Events], axis: int = 0) -> Events:
    return jax.tree.map(lambda *x: jnp.stack(x, axis), *events)
