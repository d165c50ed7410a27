"""The serving layer between any policy's scores and the user: sampling, caps, exploration.

A policy that shows its best item over and over collapses to one cluster. Platforms do not: they
sample among the best, cap a cluster's share of what is shown and give some slots to exploration.

Sizes as suffixes: U users, M candidates, L slots of the list, R remembered items, I catalogue.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from negflax.world.population import F32, Array

UNWANTED = -1e6  # score of a candidate to be shown only where there is no other


@dataclasses.dataclass(frozen=True)
class Serving:
    """How a list is made of scores.

    Attributes:
      temperature: of the sampling, in units of the scores; 0: always the best.
      cap: items of one cluster among the remembered ones and the list; 0: no cap.
      exploration: share of the slots filled with a uniformly random item of the catalogue.
    """

    temperature: float = 1.0
    cap: int = 0
    exploration: float = 0.05


class Context(NamedTuple):
    """What the layer knows of the catalogue and of this moment.

    Attributes:
      released_I: float32, the moment from which exploration may show an item; (I,).
      now_U: float32, the present moment in the same unit.
      cluster_I: int32 cluster of every item; needed for a cap.
      recent_UR: int32 items shown before, −1 for none; they count against the cap.
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
    """A list for every user, slot by slot; no item twice among the candidates' picks.

    Args:
      key: random key; the same key gives two policies the same luck.
      item_UM: int32 candidates, repetitions allowed.
      score_UM: float32; `UNWANTED` or below for what should not be shown.
      length: L.
      layer: the rules.
      context: releases, clusters and what was shown before.

    Raises:
      ValueError: a cap without clusters.

    Returns:
      item_UL (int32) and explored_UL (bool).
    """
    released_I, now_U, cluster_I, recent_UR = context
    if layer.cap and cluster_I is None:
        raise ValueError("a cap needs the clusters: give Context(cluster_I=…)")
    users, count = item_UM.shape[0], released_I.shape[0]
    luck_key, slot_key, random_key = jax.random.split(key, 3)
    luck_UM = layer.temperature * jax.random.gumbel(luck_key, score_UM.shape, F32)
    noisy_UM = score_UM + jnp.where(score_UM > UNWANTED, luck_UM, 0)
    explored_UL = jax.random.uniform(slot_key, (users, length), F32) < layer.exploration
    random_UL = jax.random.randint(random_key, (users, length), 0, count, dtype=jnp.int32)
    explored_UL &= released_I[random_UL] <= jnp.broadcast_to(now_U, (users,))[:, None]
    shown_UR = jnp.full((users, 0), -1, jnp.int32) if recent_UR is None else recent_UR

    def penalty(listed_UR: Array) -> Array:
        """(U, M): candidates of a full cluster come after all others, but before UNWANTED."""
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
