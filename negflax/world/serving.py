"""The serving layer: turns scores into lists by sampling, cluster caps and exploration.

A policy that always shows its best items collapses to one cluster. Platforms avoid this: they
sample among the best, cap the number of items per cluster and reserve some slots for exploration.

Sizes as suffixes: U users, M candidates, L slots of the list, R remembered items, I catalogue.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from negflax.world.population import F32, Array

UNWANTED = -1e6  # score of a candidate that is shown only if there is no other


@dataclasses.dataclass(frozen=True)
class Serving:
    """Settings of the serving layer.

    Attributes:
      temperature: temperature of the sampling, in units of the scores; 0: always the best item.
      cap: maximum number of items of one cluster in the list and the recent items together; 0: no
        maximum.
      exploration: share of slots filled with a uniformly random item of the catalogue.
    """

    temperature: float = 1.0
    cap: int = 0
    exploration: float = 0.05


class Context(NamedTuple):
    """The inputs of the layer besides the scores.

    Attributes:
      released_I: float32, release time of each item, before which exploration does not show it.
      now_U: float32, present time in the same unit.
      cluster_I: int32, cluster of each item; needed for a cap.
      recent_UR: int32, recently shown items, −1 for none; they count against the cap.
    """

    released_I: Array
    now_U: Array | float = 0.0
    cluster_I: Array | None = None
    recent_UR: Array | None = None


def serve_list(
    key: Array,
    item_UM: Array,
    score_UM: Array,
    length: int,
    layer: Serving,
    context: Context,
) -> tuple[Array, Array]:
    """Fills a list for every user, slot by slot; no candidate is chosen twice in a list.

    Args:
      key: random key; two policies with the same key get the same random numbers.
      item_UM: int32 candidates, which may repeat.
      score_UM: float32 scores; `UNWANTED` or below for candidates that should not be shown.
      length: list length L.
      layer: settings.
      context: release times, clusters and recently shown items.

    Raises:
      ValueError: there is a cap but no clusters.

    Returns:
      item_UL (int32) and explored_UL (bool, whether the slot went to exploration).
    """
    released_I, now_U, cluster_I, recent_UR = context
    if layer.cap and cluster_I is None:
        raise ValueError("Serving.cap needs the clusters of the items: give Context(cluster_I=…)")
    users, count = item_UM.shape[0], released_I.shape[0]
    luck_key, slot_key, random_key = jax.random.split(key, 3)
    luck_UM = layer.temperature * jax.random.gumbel(luck_key, score_UM.shape, F32)
    noisy_UM = score_UM + jnp.where(score_UM > UNWANTED, luck_UM, 0)
    explored_UL = jax.random.uniform(slot_key, (users, length), F32) < layer.exploration
    random_UL = jax.random.randint(random_key, (users, length), 0, count, dtype=jnp.int32)
    explored_UL &= released_I[random_UL] <= jnp.broadcast_to(now_U, (users,))[:, None]
    shown_UR = jnp.full((users, 0), -1, jnp.int32) if recent_UR is None else recent_UR

    def penalty(listed_UR: Array) -> Array:
        """Returns (U, M) terms that rank full clusters after all others but before UNWANTED."""
        if not layer.cap:
            return jnp.zeros(noisy_UM.shape, F32)
        cluster_UR = jnp.where(listed_UR >= 0, cluster_I[listed_UR], -1)
        same_UMR = cluster_I[item_UM][:, :, None] == cluster_UR[:, None, :]
        return jnp.where(same_UMR.sum(-1) >= layer.cap, F32(UNWANTED / 2), F32(0))

    def fill(listed_UR: Array, slot: Array) -> tuple[Array, Array]:
        own_UL = listed_UR[:, shown_UR.shape[1] :]
        taken_UM = (item_UM[:, :, None] == own_UL[:, None, :]).any(-1)
        value_UM = jnp.where(taken_UM, 2 * UNWANTED, noisy_UM + penalty(listed_UR))
        best_U = jnp.take_along_axis(item_UM, value_UM.argmax(axis=1)[:, None], axis=1)[:, 0]
        item_U = jnp.where(explored_UL[:, slot], random_UL[:, slot], best_U)
        return listed_UR.at[:, shown_UR.shape[1] + slot].set(item_U), item_U

    empty_UL = jnp.full((users, length), -1, jnp.int32)
    listed_UR = jnp.concatenate([shown_UR, empty_UL], axis=1)
    item_LU = jax.lax.scan(fill, listed_UR, jnp.arange(length))[1]
    return item_LU.T, explored_UL
