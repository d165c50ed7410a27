"""The platform as an environment for your own agent, with all users in one batch.

The signatures follow Gymnasium (`reset(seed=, options=)`, `step(action)`), with arrays over users
in place of scalars, as in its vector environments. Gymnasium itself is not needed.

  environment = Platform(WorldConfig(num_users=1_000), surface="feed")
  observation, info = environment.reset(seed=0)
  observation, reward, terminated, truncated, info = environment.step(item_U)

Sizes as suffixes: U users, L places of a page.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from negflax.config import ConfigError, WorldConfig
from negflax.world import behaviour, home
from negflax.world.behaviour import Feedback, UserState
from negflax.world.named_worlds import mechanisms
from negflax.world.parameters import DEFAULT, Parameters
from negflax.world.population import Array, Population, draw_population, on_host, world_key

SURFACES = ("feed", "home")


class Platform:
    """Users to serve, on one of two surfaces.

    An action is one index into `population.items` for every user (`feed`: (U,)), or a page of
    indices from the top (`home`: (U, L)). An observation is a dict of what a platform can log about
    the last step. On the feed it has `item`, `dwell_ms`, `skip`, `long_view`, `like`, `dislike`,
    `dismissal`, `session` (items since the session began) and `pause_s`, each (U,). On the home
    page it has the same for the opened item (`item` is −1 if none was opened), but `looked`,
    `click` and `dismissal` are (U, L), one value per place. The reward is 1 for a long view minus 1
    for a dislike. A user who has left for good is `terminated` and gives no feedback; after
    `config.steps` steps all users are `truncated`.

    Attributes:
      config: sizes, seed and switches.
      surface: `feed` (one item after the other) or `home` (a list to choose from).
      population: the ground truth behind the behaviour; an agent under test must not read `users`.
      state: present state of the users.
    """

    def __init__(
        self, config: WorldConfig, surface: str = "feed", parameters: Parameters = DEFAULT
    ):
        """Draws the population.

        Raises:
          ConfigError: the surface is unknown.
        """
        if surface not in SURFACES:
            raise ConfigError(f"surface = {surface!r}: choose from {', '.join(SURFACES)}")
        self.config, self.surface = config, surface
        self.parameters = mechanisms(config, parameters)
        self.population: Population = draw_population(config, self.parameters)
        self.state: UserState | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Puts all users into their initial state.

        Args:
          seed: seed of the behaviour; None: the config's. Two agents with the same seed get the
            same random numbers.
          options: ignored; there are none.

        Returns:
          The observation of users who have been shown nothing yet, and an empty info dict.
        """
        del options
        with on_host():
            self._key = jax.random.fold_in(world_key(self.config.seed if seed is None else seed), 2)
        self.state, self._step = behaviour.first_state(self.population, self.parameters), 0
        users, places = self.config.num_users, self.parameters.page_items
        nothing = Feedback(np.zeros(users, np.int32), *[np.zeros(users, bool) for _ in range(5)])
        seen = {"item": np.full(users, -1, np.int32), "session": np.zeros(users, np.float32)}
        seen |= _named(nothing) | {"pause_s": np.zeros(users, np.float32)}
        if self.surface == "home":
            none_UL = np.zeros((users, places), bool)
            seen |= {"looked": none_UL, "click": none_UL, "dismissal": none_UL}
        return seen, {}

    def step(
        self, action: Array
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Shows every user an item or a page.

        Raises:
          ValueError: the action has the wrong shape, or an index outside the catalogue.
          RuntimeError: `reset` was not called.
        """
        if self.state is None:
            raise RuntimeError("call reset() before step()")
        action = np.asarray(action)
        users, items = self.config.num_users, self.config.num_items
        home_page = self.surface == "home"
        if action.shape[:1] != (users,) or action.ndim != 1 + home_page:
            wanted = f"({users}, places)" if home_page else f"({users},)"
            raise ValueError(
                f"action has shape {action.shape}: surface {self.surface!r} takes {wanted}"
            )
        if not np.issubdtype(action.dtype, np.integer) or action.min() < 0 or action.max() >= items:
            raise ValueError(f"action: give item indices, integers from 0 to {items - 1}")
        one = _page if home_page else _item
        with on_host():
            self.state, seen, present_U = one(
                jax.random.fold_in(self._key, self._step),
                self.population,
                self.state,
                jnp.asarray(action, jnp.int32),
                jnp.int32(self._step),
                self.parameters,
            )
        self._step += 1
        seen, present_U = jax.device_get((seen, present_U))
        reward_U = seen["long_view"].astype(np.float32) - seen["dislike"]
        truncated_U = np.full(users, self._step >= self.config.steps)
        return seen, reward_U, ~present_U, truncated_U, {}


@functools.partial(jax.jit, static_argnums=5)
def _item(key, population, state, item_U, round_index, p):
    keys = jax.random.split(key, 3)
    state, pause_s_U = behaviour.pause(keys[0], population, state, state.present_U, p)
    feedback = behaviour.respond(keys[1], population, state, item_U, p)
    after, observation = _after(keys[2], population, state, item_U, feedback, round_index, p)
    return after, observation | {"pause_s": pause_s_U}, after.present_U


@functools.partial(jax.jit, static_argnums=5)
def _page(key, population, state, item_UL, round_index, p):
    keys = jax.random.split(key, 3)
    state, pause_s_U = behaviour.pause(keys[0], population, state, state.present_U, p)
    page = home.visit(keys[1], population, state, item_UL, p)
    there_U1 = state.present_U[:, None]
    after, observation = _after(
        keys[2], population, state, page.item_U, page.feedback, round_index, p
    )
    observation |= {
        "pause_s": pause_s_U,
        "looked": page.looked_UL & there_U1,
        "click": page.click_UL & there_U1,
        "dismissal": page.dismissal_UL & there_U1,
    }
    return after, observation, after.present_U


def _after(key, population, state, item_U, feedback, round_index, p):
    """Returns the state after the event, and the observation of it."""
    exit_key, leave_key = jax.random.split(key)
    feedback = jax.tree.map(lambda x: jnp.where(state.present_U, x, jnp.zeros_like(x)), feedback)
    event_U = state.present_U & (item_U >= 0)
    left_U = behaviour.leave_session(exit_key, feedback, p)
    event = behaviour.Event(item_U, feedback, event_U, left_U)
    after = behaviour.update(state, population, event, round_index, p)
    stays_U = jax.random.uniform(leave_key, event_U.shape) >= p.leave
    after = after._replace(present_U=after.present_U & stays_U)
    observation = {
        "item": jnp.where(event_U, item_U, -1),
        "session": after.session_U,
        **_named(feedback),
    }
    return after, observation


def _named(feedback: Feedback) -> dict[str, Any]:
    return {name.removesuffix("_U"): value for name, value in feedback._asdict().items()}
