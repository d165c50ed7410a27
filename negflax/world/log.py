"""Simulates the platform and returns the result as an event log and an item table.

Sizes as suffixes: U users, K rounds, E events.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from negflax.config import WorldConfig
from negflax.world import behaviour, feed
from negflax.world.named_worlds import mechanisms
from negflax.world.parameters import DEFAULT, Parameters
from negflax.world.population import (
    F32,
    Array,
    Items,
    Population,
    draw_population,
    on_host,
    world_key,
)

MAIN_FEED, DISCOVERY = 1, 2  # values of the column `surface`


class Rounds(NamedTuple):
    """The events of each round; leading axes (K, U).

    Attributes:
      online: bool, whether the user had an event.
      item: int32, index into the catalogue.
      explored: bool, whether the item was a random exploration.
      pause_s: float32 seconds between the end of the previous event and this one.
      feedback: dwell and buttons.
    """

    online: Array
    item: Array
    explored: Array
    pause_s: Array
    feedback: behaviour.Feedback


def generate(config: WorldConfig, parameters: Parameters = DEFAULT) -> tuple[pa.Table, pa.Table]:
    """Draws a population, simulates its use of the platform and returns the log.

    The same sizes, seed and parameters give the same tables.

    Args:
      config: sizes and seed.
      parameters: mechanisms of the world.

    Returns:
      The events and the items. Event columns: user_id, item_id, pos (int64, from 0 within the
      user), timestamp_ms (int64, unix), long_view, like, dislike, dismissal, skip (bool), dwell_ms,
      duration_ms (int64), surface (int64: 1 main feed, 2 discovery); ordered by user and pos.
      Item columns: item_id, creator_id (int64), cluster_ids (list<int64>), title, duration_ms.
    """
    parameters = mechanisms(config, parameters)
    population = draw_population(config, parameters)
    with on_host():
        key = jax.random.fold_in(world_key(config.seed), 1)
        rounds = play(key, population, config.steps, parameters)
        population, rounds = jax.device_get((population, rounds))
    return _event_table(population, rounds, parameters), _item_table(population.items)


@functools.partial(jax.jit, static_argnums=(2, 3))
def play(key: Array, population: Population, rounds: int, p: Parameters) -> Rounds:
    """Simulates all rounds of the platform; each round serves all users at once.

    Args:
      key: random key of the log.
      population: users and items.
      rounds: K.
      p: mechanisms of the world.
    """
    users = population.users
    count = users.activity_U.shape[0]

    def one_round(
        state: behaviour.UserState, round_index: Array
    ) -> tuple[behaviour.UserState, Rounds]:
        keys = jax.random.split(jax.random.fold_in(key, round_index), 5)
        uniform_2U = jax.random.uniform(keys[0], (2, count), F32)
        online_U = state.present_U & (uniform_2U[0] < users.activity_U)
        state, pause_s_U = behaviour.pause(keys[1], population, state, online_U, p)
        item_U, explored_U = feed.serve(keys[2], population.items, state, p)
        feedback = behaviour.respond(keys[3], population, state, item_U, p)
        left_U = behaviour.leave_session(keys[4], feedback, p)
        event = behaviour.Event(item_U, feedback, online_U, left_U)
        state = behaviour.update(state, population, event, round_index, p)
        state = state._replace(present_U=state.present_U & (uniform_2U[1] >= p.leave))
        return state, Rounds(online_U, item_U, explored_U, pause_s_U, feedback)

    first = behaviour.first_state(population, p)
    return jax.lax.scan(one_round, first, jnp.arange(rounds, dtype=jnp.int32))[1]


def _event_table(population: Population, rounds: Rounds, p: Parameters) -> pa.Table:
    items, online_UK = population.items, rounds.online.T
    dwell_ms_UK = np.where(online_UK, rounds.feedback.dwell_ms_U.T, 0).astype(np.int64)
    pause_ms_UK = np.where(online_UK, _ms(rounds.pause_s.T), 0)
    arrival_ms_U1 = _ms(population.users.arrival_s_U)[:, None]
    end_ms_UK = arrival_ms_U1 + np.cumsum(pause_ms_UK + dwell_ms_UK, axis=1)
    start_ms_UK = end_ms_UK - dwell_ms_UK

    happened_UK = online_UK & (start_ms_UK < round(p.log_days * 86_400_000))
    pos_UK = np.cumsum(happened_UK, axis=1) - 1
    user_E = np.nonzero(happened_UK)[0]
    item_E = rounds.item.T[happened_UK]
    feedback = {
        name: getattr(rounds.feedback, f"{name}_U").T[happened_UK]
        for name in ("long_view", "like", "dislike", "dismissal", "skip")
    }
    return pa.table(
        {
            "user_id": user_E.astype(np.int64),
            "item_id": items.item_id_I[item_E].astype(np.int64),
            "pos": pos_UK[happened_UK].astype(np.int64),
            "timestamp_ms": p.log_start_ms + start_ms_UK[happened_UK],
            **feedback,
            "dwell_ms": dwell_ms_UK[happened_UK],
            "duration_ms": items.duration_ms_I[item_E].astype(np.int64),
            "surface": np.where(rounds.explored.T[happened_UK], DISCOVERY, MAIN_FEED),
        }
    )


def _item_table(items: Items) -> pa.Table:
    order_I = np.argsort(items.item_id_I)
    item_I = pa.array(items.item_id_I[order_I].astype(np.int64))
    creator_I = pa.array(items.creator_I[order_I].astype(np.int64))
    cluster_I = items.cluster_I[order_I].astype(np.int64)
    words = [
        "Topic ",
        pa.array(cluster_I).cast("string"),
        ", creator ",
        creator_I.cast("string"),
        ", clip ",
        item_I.cast("string"),
    ]
    return pa.table(
        {
            "item_id": item_I,
            "creator_id": creator_I,
            "cluster_ids": pa.ListArray.from_arrays(
                np.arange(len(cluster_I) + 1, dtype=np.int32), cluster_I
            ),
            "title": pc.binary_join_element_wise(*words, ""),
            "duration_ms": items.duration_ms_I[order_I].astype(np.int64),
        }
    )


def _ms(seconds: np.ndarray) -> np.ndarray:
    """Converts seconds to whole milliseconds, int64."""
    return np.rint(np.asarray(seconds, np.float64) * 1_000).astype(np.int64)
