"""A day of the simulated platform, served by a model or by the logging platform.

A day is calendar time: a user comes when their clock reaches it, sees one item (feed) or page
(home) after another, and leaves. Round r simulates the r-th visit of the day of every user who is
online. Random numbers are drawn per (day, round, user), so a user who gets the same lists in two
arms behaves the same in both.

Sizes as suffixes: U users, I items, L places of a page, R remembered items, D width, H encoder
width, K rounds.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from negflax.calibration.counts_on_device import Counted
from negflax.data import features
from negflax.simulate.arm import Arm, Carry, Events, read
from negflax.simulate.live.served_lists import Live, Plan, lists, of_those
from negflax.world import Parameters, Population, behaviour, feed, home

DISLIKES = 64  # number of a user's newest dislikes that the filters remember


class Visits(NamedTuple):
    """The logged visits; leading axes (K, U). Codes are those of negflax/data/features.py.

    Attributes:
      online: bool, whether there was a visit.
      begins: bool, whether it began a session.
      item: int32 index of the item that was played, −1 for none.
      start_s: float32, seconds after the start of the log.
      seen: int32, number of items looked at; 1 on the feed.
      dismissals: int32, number of items dismissed.
      feedback: feedback on the item that was played.
      enjoyment: float32, σ(affinity) of that item: the ground truth, which no arm sees.
      dwell, watch_ratio, gap: uint8 codes of the event.
    """

    online: jax.Array
    begins: jax.Array
    item: jax.Array
    start_s: jax.Array
    seen: jax.Array
    dismissals: jax.Array
    feedback: behaviour.Feedback
    enjoyment: jax.Array
    dwell: jax.Array
    watch_ratio: jax.Array
    gap: jax.Array


def arrive(key: jax.Array, population: Population, p: Parameters, width: tuple[int, int]) -> Live:
    """Returns the state of all users before their first visit; `width` is the model's (D, H)."""
    world = behaviour.first_state(population, p)
    world, _ = behaviour.pause(key, population, world, world.present_U, p)
    users = len(world.present_U)
    return Live(
        world=world,
        begins_U=jnp.ones(users, bool),
        since_s_U=jnp.full(users, -1, jnp.float32),
        dropped_UN=jnp.full((users, DISLIKES), -1, jnp.int32),
        state_UD=jnp.zeros((users, width[0])),
        cell_UH=jnp.zeros((users, width[1])),
    )


@functools.partial(jax.jit, static_argnames="plan")
def play_day(
    key: jax.Array,
    day: jax.Array,
    population: Population,
    live: Live,
    arm: Arm | None,
    plan: Plan,
) -> tuple[Live, Visits]:
    """Simulates all visits of a day.

    Args:
      key: random key of the experiment; the day is folded in.
      day: int32 index of the day, whose visits start before (day + 1) · 24 h.
      population: users and items; item i is row i + 1 of the model.
      live: state of the users at the end of the previous day.
      arm: arrays of the plan's model; None: the logging platform serves.
      plan: mechanisms of the world, model, sizes and switches.
    """
    key = jax.random.fold_in(key, day)
    evening_s = (day + 1) * jnp.float32(86_400)

    def one_round(live: Live, number: jax.Array) -> tuple[Live, Visits]:
        online_U = live.world.present_U & (live.world.clock_s_U < evening_s)
        visit = functools.partial(
            _visit, jax.random.fold_in(key, number), population, arm, plan, online_U
        )
        nothing = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(lambda: visit(live)[1])
        )
        return lax.cond(online_U.any(), visit, lambda live: (live, nothing), live)

    return lax.scan(one_round, live, jnp.arange(plan.rounds))


def _visit(
    key: jax.Array,
    population: Population,
    arm: Arm | None,
    plan: Plan,
    online_U: jax.Array,
    live: Live,
) -> tuple[Live, Visits]:
    """Simulates one visit: lists, feedback, new user state, pause, new encoder state."""
    keys = jax.random.split(key, 5)
    world, p = live.world, plan.p
    if arm is None:
        page_UL = feed.serve(keys[0], population.items, world, p)[0][:, None]
    else:
        page_UL = lists(keys[0], population, arm, plan, live, online_U)
    if plan.surface == "home":
        page = home.visit(keys[1], population, world, page_UL, p)
        item_U, feedback, seen_U = page.item_U, page.feedback, page.looked_UL.sum(1)
        dismissals_U = page.dismissal_UL.sum(1) + feedback.dismissal_U
    else:
        item_U = page_UL[:, 0]
        feedback = behaviour.respond(keys[1], population, world, item_U, p)
        seen_U, dismissals_U = jnp.ones_like(item_U), feedback.dismissal_U.astype(jnp.int32)
    event_U = online_U & (item_U >= 0)
    left_U = behaviour.leave_session(keys[2], feedback, p)
    event = behaviour.Event(item_U, feedback, event_U, left_U)
    after = behaviour.update(world, population, event, jnp.int32(0), p)
    stays_U = jax.random.uniform(keys[3], event_U.shape) >= p.leave
    after = after._replace(
        # Updated per event, not per round: rounds without a visit must not displace older items.
        shown_UR=_push(world.shown_UR, item_U, event_U),
        disliked_UR=_push(world.disliked_UR, feedback.dislike_U, event_U),
        present_U=after.present_U & (stays_U | ~online_U),
    )
    dwell_s_U = feedback.dwell_ms_U / jnp.float32(1_000)
    codes = _codes(population, item_U, feedback, live.since_s_U)
    begins_U = after.left_session_U
    after, pause_s_U = behaviour.pause(keys[4], population, after, online_U, p)
    state_UD, cell_UH, counted = live.state_UD, live.cell_UH, live.counted
    if arm is not None:
        state_UD, cell_UH, counted = _read_events(arm, plan, item_U, codes, event_U, live)
    since_s_U = jnp.where(event_U, dwell_s_U, live.since_s_U)
    new = Live(
        world=after,
        begins_U=jnp.where(online_U, begins_U, live.begins_U),
        since_s_U=jnp.where(online_U & (since_s_U >= 0), since_s_U + pause_s_U, since_s_U),
        dropped_UN=_push(live.dropped_UN, item_U, event_U & feedback.dislike_U),
        state_UD=state_UD,
        cell_UH=cell_UH,
        counted=counted,
    )
    visits = Visits(
        online=online_U,
        begins=live.begins_U,
        item=jnp.where(event_U, item_U, -1),
        start_s=world.clock_s_U,
        seen=seen_U,
        dismissals=dismissals_U,
        feedback=feedback,
        enjoyment=jax.nn.sigmoid(behaviour.affinity(population, world, item_U, p)),
        **{name: codes[name].astype(jnp.uint8) for name in ("dwell", "watch_ratio", "gap")},
    )
    return new, visits


def _read_events(
    arm: Arm, plan: Plan, item_U: jax.Array, codes: dict[str, jax.Array], event_U: Any, live: Live
) -> tuple[jax.Array, jax.Array, Counted | None]:
    """Returns (state_UD, cell_UH, counted) after the event; users without one keep theirs."""

    def some(cell_BH, counted, event_B):
        events = Events(**{name: x[:, None] for name, x in event_B.items()})
        user, carry = read(plan.model, arm, events, Carry(cell_BH, counted))
        return user.state_SD, carry.encoder, carry.counted

    event = {"item": item_U + 1, "surface": jnp.zeros_like(item_U), **codes}
    before = live.state_UD, live.cell_UH, live.counted
    given = live.cell_UH, live.counted, event
    return of_those(event_U, some, given, before, plan.users_at_a_time)


def _codes(
    population: Population, item_U: jax.Array, feedback: behaviour.Feedback, since_s_U: jax.Array
) -> dict[str, jax.Array]:
    """Returns the int32 codes of the event, as negflax.data computes them from a log."""
    duration_U = population.items.duration_ms_I[item_U].astype(jnp.float32)
    ratio_U = feedback.dwell_ms_U / duration_U
    gap_U = _bucket(since_s_U, features.GAP_EDGES_S)
    return {
        "dislike": 1 + feedback.dislike_U.astype(jnp.int32),
        "dismissal": 1 + feedback.dismissal_U.astype(jnp.int32),
        "dwell": _bucket(feedback.dwell_ms_U.astype(jnp.float32), features.DWELL_EDGES_MS),
        "watch_ratio": _bucket(ratio_U, features.WATCH_RATIO_EDGES),
        "gap": jnp.where(since_s_U >= 0, gap_U, 0),
    }


def _bucket(value_U: jax.Array, edges: Any) -> jax.Array:
    """Returns bucket codes, as features.buckets does, for values that are known."""
    place_U = jnp.searchsorted(jnp.asarray(edges, jnp.float32), value_U, side="right")
    return 1 + place_U.astype(jnp.int32)


def _push(ring_UR: jax.Array, value_U: jax.Array, where_U: jax.Array) -> jax.Array:
    """Appends a value to each user's window and drops the oldest, where `where_U` is true."""
    new_UR = jnp.concatenate([ring_UR[:, 1:], value_U[:, None].astype(ring_UR.dtype)], axis=1)
    return jnp.where(where_U[:, None], new_UR, ring_UR)
