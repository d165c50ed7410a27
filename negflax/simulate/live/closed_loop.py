"""Live experiments: every arm serves its users, retrains on its own log, and serves again.

The loop of an arm is `run_arm`: retrain → read the users' histories anew → days, each of them one
compiled program → retrain. All arms begin with the same log, made by the logging platform, the same
users and luck, and with one positives-only model for all that see dislikes, one for the others.

Shapes: U users, T steps of a history, D width, H encoder width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from negflax.config import Config
from negflax.data import Catalogue
from negflax.simulate.live import served_day, user_log, user_metrics
from negflax.simulate.live.arms import ARMS
from negflax.simulate.live.live_settings import LiveSettings
from negflax.simulate.live.served_day import play_day
from negflax.simulate.live.served_lists import Live, Plan
from negflax.simulate.live.served_models import Models, read_histories
from negflax.simulate.live.user_log import Log
from negflax.world import Parameters, Population, draw_population, mechanisms
from negflax.world.population import on_host, world_key


class Start(NamedTuple):
    """What all arms have in common.

    Attributes:
      config: the run's.
      settings: the experiment's.
      p: mechanisms of the world.
      population: its users and items.
      catalogue: its items.
      live: users in the last evening of the logging platform.
      log: of the logging platform.
      key: of luck.
    """

    config: Config
    settings: LiveSettings
    p: Parameters
    population: Population
    catalogue: Catalogue
    live: Live
    log: Log
    key: jax.Array


def prepare(config: Config, settings: LiveSettings) -> Start:
    """Draws the world and lets the logging platform serve it."""
    p = mechanisms(config.world)
    population = draw_population(config.world, p)
    with on_host():
        key = jax.random.fold_in(world_key(config.world.seed), 3)
        width = config.model.embedding, config.model.hidden
        live, logs = served_day.arrive(key, population, p, width), []
        serve = functools.partial(play_day, key, arm=None, plan=Plan(p))
        for day in range(settings.log_days):
            live, visits = serve(jnp.int32(day), population, live)
            logs.append(user_log.visits_of(day, visits))
    log = user_log.joined(logs)
    played_I = np.bincount(log["item"], minlength=config.world.num_items)
    catalogue = user_log.catalogue_of(population.items, played_I)
    return Start(config, settings, p, population, catalogue, live, log, key)


def run_arm(
    name: str,
    surface: str,
    share: tuple[int, int],
    start: Start,
    models: Models,
    on_day_end: Callable[[int], None] = lambda day: None,
) -> user_metrics.Sums:
    """Lets an arm serve its users.

    Args:
      name: of the arm.
      surface: `feed` or `home`.
      share: (its number, how many arms share the users), for LiveSettings.split.
      start: what the arms have in common.
      models: likewise.
      on_day_end: called with the number of each simulated day once it is over.
    """
    spec, settings = ARMS[name], start.settings
    config, state = models.first(spec)
    model = models.model(config)
    plan = Plan(start.p, model, surface, spec.block)
    member_U = members(start, share)
    world = start.live.world
    live = start.live._replace(world=world._replace(present_U=world.present_U & member_U))
    log, first = start.log, settings.log_days
    for day in range(settings.days):
        if day % settings.retrain_every == 0:
            sequences = models.sequences(log, config)
            if day:
                state = models.retrained(config, state, sequences, settings.retrain_steps)
            arm = models.arm(config, state)
            state_UD, cell_UH = read_histories(model, arm, sequences, config.eval.history)
            live = live._replace(state_UD=state_UD, cell_UH=cell_UH)
        live, visits = play_day(
            start.key, jnp.int32(first + day), start.population, live, arm, plan
        )
        log = user_log.joined([log, user_log.visits_of(first + day, visits)])
        on_day_end(day)
    creator_I, cluster_I = (
        np.asarray(getattr(start.population.items, f"{kind}_I")) for kind in ("creator", "cluster")
    )
    return user_metrics.measure(log, first, settings.days, creator_I, cluster_I, member_U)


def members(start: Start, share: tuple[int, int]) -> np.ndarray:
    """(U,) bool: the users of an arm."""
    users, (number, count) = start.config.world.num_users, share
    if not start.settings.split:
        return np.ones(users, bool)
    order_U = np.random.default_rng(start.config.world.seed).permutation(users)
    return order_U % count == number
