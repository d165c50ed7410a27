"""Live experiments: every arm serves its users, retrains on its own log, and serves again.

`run_arm` is the loop of one arm: retrain, encode the users' histories with the new model, simulate
some days (each is one call of a compiled program), retrain. All arms start with the same log, made
by the logging platform, the same users and the same random numbers. Those with dislikes as an input
start from one positives-only model, the others from another.

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
from negflax.simulate.live.served_models import Models, count_histories, read_histories
from negflax.simulate.live.user_log import Log
from negflax.world import Parameters, Population, draw_population, mechanisms
from negflax.world.population import on_host, world_key


class Start(NamedTuple):
    """The common starting point of all arms.

    Attributes:
      config: config of the run.
      settings: settings of the experiment.
      p: mechanisms of the world.
      population: users and items of the world.
      catalogue: catalogue of these items.
      live: state of the users after the last day of the logging platform.
      log: log of the logging platform.
      key: random key of the experiment.
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
    """Draws the world and simulates the days of the logging platform."""
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
    """Runs one arm on one surface and returns its sums over users.

    Args:
      name: name of the arm.
      surface: `feed` or `home`.
      share: (index of the arm, number of arms), for LiveSettings.split.
      start: starting point of all arms.
      models: models of all arms.
      on_day_end: called with the index of each simulated day after it ends.
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
            arm = models.arm(spec, config, state, log)
            state_UD, cell_UH = read_histories(model, arm, sequences, config.eval.history)
            counted = count_histories(arm, sequences)
            live = live._replace(state_UD=state_UD, cell_UH=cell_UH, counted=counted)
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
    """Returns which users an arm serves, (U,) bool."""
    users, (number, count) = start.config.world.num_users, share
    if not start.settings.split:
        return np.ones(users, bool)
    order_U = np.random.default_rng(start.config.world.seed).permutation(users)
    return order_U % count == number
