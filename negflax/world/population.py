"""The population of the world: items with clusters and creators, users with tastes and aversions.

Sizes as suffixes: U users, I items, A creators (authors), C clusters, W latent width.
Items are sorted by cluster, so that one cumulative popularity is enough to draw within any cluster;
`item_id_I` is their public, shuffled identifier.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from negflax.config import WorldConfig
from negflax.world.parameters import DEFAULT, Parameters

Array = jax.Array
F32 = jnp.float32


class Items(NamedTuple):
    """The catalogue, sorted by cluster.

    Attributes:
      item_id_I: int32 public identifiers, a permutation of 0..I-1.
      cluster_I: int32, ascending.
      creator_I: int32.
      latent_IW: float32 with about unit variance.
      quality_I: float32, standard normal.
      duration_ms_I: int32 milliseconds.
      release_s_I: float32, seconds after the start of the log; 0 for items released before it.
      popularity_I: float32, cumulative share of exposure; the last value is 1.
      start_C1: int32; cluster c holds the items start_C1[c] to start_C1[c + 1] − 1.
      centre_CW: float32, cluster centres.
      disliked_I: float32 factor of the probabilities of a dislike, 1 on average.
    """

    item_id_I: Array
    cluster_I: Array
    creator_I: Array
    latent_IW: Array
    quality_I: Array
    duration_ms_I: Array
    release_s_I: Array
    popularity_I: Array
    start_C1: Array
    centre_CW: Array
    disliked_I: Array


class Users(NamedTuple):
    """Traits of the users that do not change.

    Attributes:
      taste_UW: float32, standard normal.
      averse_cluster_UC: bool.
      averse_creator_UA: bool.
      patience_U: float32, constant added to affinity.
      activity_U: float32, probability of an event in a round.
      pace_U: float32, factor of the pauses between sessions.
      arrival_s_U: float32, seconds after the start of the log.
    """

    taste_UW: Array
    averse_cluster_UC: Array
    averse_creator_UA: Array
    patience_U: Array
    activity_U: Array
    pace_U: Array
    arrival_s_U: Array


class Population(NamedTuple):
    """Items and users."""

    items: Items
    users: Users


def match(spec: str, taste: Array, latent: Array) -> Array:
    """Returns taste · latent / sqrt(W), float32: standard normal for a random user and item.

    Args:
      spec: einsum specification over the latent axis `w`, such as `uw,cw->uc`.
      taste: float32, width W last.
      latent: float32, width W last.
    """
    product = jnp.einsum(spec, taste, latent, precision=jax.lax.Precision.HIGHEST)
    return product * F32(taste.shape[-1] ** -0.5)


def world_key(seed: int) -> Array:
    """Returns the random key of a world; naming the generator keeps it if JAX's default changes."""
    return jax.random.key(seed, impl="threefry2x32")


def on_host() -> contextlib.AbstractContextManager:
    """Runs JAX on the CPU within the context: other devices round differently."""
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # JAX_PLATFORMS excludes the CPU backend
        return contextlib.nullcontext()


def draw_population(config: WorldConfig, parameters: Parameters = DEFAULT) -> Population:
    """Draws all items and users, as a pure function of the sizes, the seed and the parameters."""
    # The seed is not a static argument: worlds that differ only in it share one compilation.
    with on_host():
        return _draw(world_key(config.seed), dataclasses.replace(config, seed=0), parameters)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _draw(key: Array, config: WorldConfig, p: Parameters) -> Population:
    items_key, users_key = jax.random.split(key)
    return Population(_draw_items(items_key, config, p), _draw_users(users_key, config, p))


def _draw_items(key: Array, config: WorldConfig, p: Parameters) -> Items:
    items, clusters, width = config.num_items, config.num_clusters, config.latent_dim
    keys = iter(jax.random.split(key, 8))
    normal = functools.partial(jax.random.normal, dtype=F32)

    sizes_C = _zipf(clusters, p.cluster_size_exponent)
    cluster_I = jnp.sort(_choose(jnp.cumsum(sizes_C), _uniform(next(keys), (items,))))
    creator_I = _draw_creators(next(keys), cluster_I, config, p)

    centre_CW = normal(next(keys), (clusters, width))
    creator_AW = normal(next(keys), (config.num_creators, width))
    own_IW = normal(next(keys), (items, width))
    cluster_share = 1.0 - p.latent_creator - p.latent_item
    latent_IW = (
        F32(cluster_share**0.5) * centre_CW[cluster_I]
        + F32(p.latent_creator**0.5) * creator_AW[creator_I]
        + F32(p.latent_item**0.5) * own_IW
    )

    quality_I, luck_I, log_length_I = normal(next(keys), (3, items))
    fame_I = p.popularity_quality * quality_I + (1 - p.popularity_quality**2) ** 0.5 * luck_I
    rank_I = jnp.argsort(jnp.argsort(-fame_I))
    popularity_I = jnp.cumsum(_zipf(items, p.popularity_exponent)[rank_I])

    duration_s_I = p.duration_median_s * jnp.exp(p.duration_spread * log_length_I)
    return Items(
        item_id_I=jax.random.permutation(next(keys), jnp.arange(items, dtype=jnp.int32)),
        cluster_I=cluster_I,
        creator_I=creator_I,
        latent_IW=latent_IW,
        quality_I=quality_I,
        duration_ms_I=(jnp.clip(duration_s_I, p.duration_min_s, p.duration_max_s) * 1_000).astype(
            jnp.int32
        ),
        release_s_I=_draw_releases(next(keys), items, p),
        popularity_I=popularity_I / popularity_I[-1],
        start_C1=jnp.searchsorted(cluster_I, jnp.arange(clusters + 1, dtype=jnp.int32)).astype(
            jnp.int32
        ),
        centre_CW=centre_CW,
        disliked_I=_draw_disliked(jax.random.fold_in(key, 0), items, p),
    )


def _draw_creators(key: Array, cluster_I: Array, config: WorldConfig, p: Parameters) -> Array:
    """Draws a creator for each item, mostly among those with a home in the item's cluster."""
    home_key, choice_key = jax.random.split(key)
    creators, clusters = config.num_creators, config.num_clusters
    home_AH = jax.random.randint(
        home_key, (creators, p.creator_clusters), 0, clusters, dtype=jnp.int32
    )
    at_home_CA = (home_AH == jnp.arange(clusters, dtype=jnp.int32)[:, None, None]).any(-1)
    weight_CA = jnp.where(at_home_CA, F32(1), F32(p.creator_stray))
    share_CA = jnp.cumsum(weight_CA * _zipf(creators, p.creator_exponent), axis=1)
    uniform_I = _uniform(choice_key, cluster_I.shape)
    return _choose_in_row(share_CA, cluster_I, uniform_I)


def _draw_releases(key: Array, items: int, p: Parameters) -> Array:
    cold_I, moment_I = _uniform(key, (2, items))
    return jnp.where(cold_I < p.cold_share, moment_I * F32(p.cold_days * 86_400), F32(0))


def _draw_disliked(key: Array, items: int, p: Parameters) -> Array:
    spread = F32(p.dislike_item_spread)
    return jnp.exp(spread * jax.random.normal(key, (items,), F32) - spread**2 / 2)


def _draw_users(key: Array, config: WorldConfig, p: Parameters) -> Users:
    users = config.num_users
    keys = jax.random.split(key, 6)
    activity_U, arrival_U = _uniform(keys[3], (2, users))
    log_pace_U = p.pace_spread * jax.random.normal(keys[4], (users,), F32)
    return Users(
        taste_UW=jax.random.normal(keys[0], (users, config.latent_dim), F32),
        averse_cluster_UC=_uniform(keys[1], (users, config.num_clusters)) < p.cluster_aversion,
        averse_creator_UA=_uniform(keys[2], (users, config.num_creators)) < p.creator_aversion,
        patience_U=p.patience_spread * jax.random.normal(keys[5], (users,), F32),
        activity_U=activity_U ** F32(1 / p.activity),
        pace_U=jnp.exp(log_pace_U),
        arrival_s_U=arrival_U * F32(p.arrival_days * 86_400),
    )


def _zipf(size: int, exponent: float) -> Array:
    """Returns Zipf shares by rank, (size,) float32, with sum 1."""
    weight = jnp.arange(1, size + 1, dtype=F32) ** -exponent
    return weight / weight.sum()


def _choose(cumulative: Array, uniform: Array) -> Array:
    """Draws int32 indices by cumulative weight, one per uniform number."""
    index = jnp.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    return jnp.minimum(index, cumulative.shape[0] - 1).astype(jnp.int32)


def _choose_in_row(cumulative_CA: Array, row_I: Array, uniform_I: Array) -> Array:
    """Does `_choose` for each i in row row_I[i] of a table, by bisection: no (I, A) array."""
    width = cumulative_CA.shape[1]
    target_I = uniform_I * cumulative_CA[row_I, -1]

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low_I, high_I = bounds  # the answer lies in low..high
        middle_I = (low_I + high_I) // 2
        right_I = cumulative_CA[row_I, middle_I] <= target_I
        found = low_I >= high_I
        return (
            jnp.where(right_I & ~found, middle_I + 1, low_I),
            jnp.where(right_I | found, high_I, middle_I),
        )

    first = jnp.zeros(row_I.shape, jnp.int32), jnp.full(row_I.shape, width - 1, jnp.int32)
    return jax.lax.fori_loop(0, width.bit_length(), halve, first)[0]


def _uniform(key: Array, shape: tuple[int, ...]) -> Array:
    return jax.random.uniform(key, shape, F32)
