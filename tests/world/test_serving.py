"""The serving layer: best first, no repetition, caps, exploration, equal luck."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negflax.world.serving import UNWANTED, Context, Serving, serve_list

ITEMS, USERS, M = 60, 50, 20
CLUSTER = jnp.arange(ITEMS, dtype=jnp.int32) % 3
NOW = Context(released_I=jnp.zeros(ITEMS))


@pytest.fixture(scope="module")
def candidates():
    item = jax.vmap(lambda key: jax.random.permutation(key, ITEMS)[:M])(
        jax.random.split(jax.random.key(1), USERS)
    ).astype(jnp.int32)
    return item, jax.random.normal(jax.random.key(2), (USERS, M))


def test_without_noise_and_exploration_the_list_is_the_ranking(candidates):
    item, score = candidates
    plain = Serving(temperature=0.0, exploration=0.0)
    listed, explored = serve_list(jax.random.key(0), item, score, 5, plain, NOW)
    best = np.take_along_axis(np.asarray(item), np.argsort(-np.asarray(score))[:, :5], axis=1)
    np.testing.assert_array_equal(listed, best)
    assert not explored.any()


def test_a_cluster_is_capped_with_what_was_shown_before(candidates):
    item, score = candidates
    recent = jnp.tile(jnp.array([0, -1]), (USERS, 1))  # an item of cluster 0, and nobody
    layer = Serving(temperature=0.0, cap=2, exploration=0.0)
    listed, _ = serve_list(
        jax.random.key(0),
        item,
        score + 9 * (CLUSTER[item] == 0),
        4,
        layer,
        NOW._replace(cluster_I=CLUSTER, recent_UR=recent),
    )
    clusters = np.asarray(CLUSTER)[listed]
    assert (clusters[:, 0] == 0).all() and (clusters[:, 1:] != 0).all()
    assert ((clusters == 1).sum(axis=1) <= 2).all()


def test_a_cap_needs_clusters(candidates):
    with pytest.raises(ValueError, match="cluster_I"):
        serve_list(jax.random.key(0), *candidates, 4, Serving(cap=2), NOW)


def test_no_item_twice_even_among_repeated_candidates():
    item = jnp.tile(jnp.array([4, 4, 4, 9], jnp.int32), (USERS, 1))
    score = jnp.tile(jnp.array([3.0, 2.0, 1.0, UNWANTED]), (USERS, 1))
    layer = Serving(exploration=0.0)
    listed, _ = serve_list(jax.random.key(0), item, score, 2, layer, NOW)
    np.testing.assert_array_equal(listed, np.tile([4, 9], (USERS, 1)))


def test_exploration_fills_its_share_with_what_is_released(candidates):
    item, score = candidates
    released = jnp.where(jnp.arange(ITEMS) < 30, 0.0, 100.0)
    layer = Serving(exploration=0.5)
    listed, explored = serve_list(
        jax.random.key(0), item, score, 10, layer, Context(released, now_U=50.0)
    )
    assert 0.2 < explored.mean() < 0.3  # half of the draws are not released yet
    assert (np.asarray(listed)[np.asarray(explored)] < 30).all()


def test_two_policies_with_the_same_key_get_the_same_random_draws(candidates):
    item, score = candidates
    one, again = (
        serve_list(jax.random.key(0), item, score, 3, Serving(), NOW)[0] for _ in range(2)
    )
    np.testing.assert_array_equal(one, again)
    near, _ = serve_list(jax.random.key(0), item, score + 1e-4, 3, Serving(), NOW)
    assert (near == one).all()
