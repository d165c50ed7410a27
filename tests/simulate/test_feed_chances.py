"""The observer's chances of what is shown next are those of the feed, and sum to 1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negflax.config import WorldConfig
from negflax.simulate.feed_chances import exposure, served
from negflax.simulate.observer import first_belief
from negflax.world import behaviour, draw_population, feed, mechanisms

DRAWS, CLUSTERS, ITEMS = 40_000, 4, 40
SIZES = dict(num_users=DRAWS, num_items=ITEMS, num_creators=6, num_clusters=CLUSTERS)


@pytest.mark.parametrize(
    ("name", "shown"), [("heedless", 0), ("loose", 12), ("reacting", 12), ("reacting", ITEMS - 1)]
)
def test_they_are_those_of_the_feed(name, shown):
    world = WorldConfig(**SIZES, name=name)
    p, population = mechanisms(world), draw_population(world)
    items, taste_W = population.items, population.users.taste_UW[0]
    items = items._replace(release_s_I=jnp.zeros(ITEMS))  # freshness is left out
    shown_R = jnp.full(p.no_repeat_rounds, -1).at[:shown].set(jnp.arange(shown))
    disliked_R = jnp.arange(p.no_repeat_rounds) < min(shown, 3)
    boredom_C = jnp.linspace(0, 2, CLUSTERS)
    state = behaviour.first_state(population, p)
    state = state._replace(
        taste_UW=jnp.tile(taste_W, (DRAWS, 1)),
        boredom_UC=jnp.tile(boredom_C, (DRAWS, 1)),
        shown_UR=jnp.tile(shown_R, (DRAWS, 1)),
        disliked_UR=jnp.tile(disliked_R, (DRAWS, 1)),
    )
    item_U, _ = feed.serve(jax.random.key(1), items, state, p)
    seen_I = np.bincount(item_U, minlength=ITEMS) / DRAWS

    traits = jax.tree.map(lambda x: x[0], population.users)
    belief = first_belief(traits, CLUSTERS, p)._replace(
        taste_W=taste_W, boredom_C=boredom_C, shown_R=shown_R, disliked_R=disliked_R
    )
    chance_I = np.asarray(served(belief, items, *exposure(items), p))
    assert chance_I.sum() == pytest.approx(1, abs=1e-5) and chance_I.min() > 0
    of_cluster = np.asarray(items.cluster_I)[:, None] == np.arange(CLUSTERS)
    np.testing.assert_allclose(chance_I @ of_cluster, seen_I @ of_cluster, atol=0.01)
    # Half of the summed difference: the share of events at which the two would differ.
    assert np.abs(chance_I - seen_I).sum() / 2 < 0.06
