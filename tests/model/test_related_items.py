import jax.numpy as jnp
import numpy as np

from negflax.data import Catalogue
from negflax.model import related_items as related_items

CATALOGUE = Catalogue(
    item_ids=np.arange(4),
    creator_V=np.array([0, 1, 2, 1, 0], np.int32),
    clusters_VC=np.array([[0, 0], [1, 2], [2, 0], [0, 0], [3, 1]], np.int32),
    train_count_V=np.ones(5, np.int64),
)
RNG = np.random.default_rng(0)
D = 3
ITEMS = RNG.normal(size=(5, D + 1))  # the last column is a bias
TABLES = {"item_creator": RNG.normal(size=(3, D)), "item_cluster": RNG.normal(size=(4, D))}


def reference():
    """id row + creator's row + mean of its clusters' rows, an item after the other."""
    rows = ITEMS.copy()
    for v in range(5):
        if CATALOGUE.creator_V[v]:
            rows[v, :D] += TABLES["item_creator"][CATALOGUE.creator_V[v]]
        clusters = [c for c in CATALOGUE.clusters_VC[v] if c]
        if clusters:
            rows[v, :D] += np.mean([TABLES["item_cluster"][c] for c in clusters], axis=0)
    return rows


def test_a_composed_table_and_composed_vectors_are_the_same():
    ids = related_items.related_of(CATALOGUE, ("creator", "cluster"))
    padded = np.concatenate([ITEMS, np.ones((3, D + 1))])
    tables = {name: jnp.asarray(x) for name, x in TABLES.items()}
    whole = related_items.compose_rows(jnp.asarray(padded), tables, ids)
    np.testing.assert_allclose(whole[:5], reference(), rtol=1e-6)
    np.testing.assert_array_equal(whole[5:], padded[5:].astype(np.float32))

    uses = {"input": jnp.array([[4, 0], [1, 3]]), "candidate": jnp.array([2, 2, 4])}
    for shared in (True, False):
        asked = related_items.lookups(
            uses, {k: jnp.asarray(v) for k, v in ids.items()}, shared=shared
        )
        found = {  # as tables.gather reads them: zeros outside the table
            table: {
                use: tables[table].at[jnp.where(x < 0, 99, x)].get(mode="fill", fill_value=0)
                for use, x in of.items()
            }
            for table, of in asked.items()
        }
        vectors = {use: jnp.asarray(ITEMS)[x] for use, x in uses.items()}
        for use, x in related_items.add(vectors, found, asked).items():
            np.testing.assert_allclose(x, reference()[np.asarray(uses[use])], rtol=1e-6)


def test_nothing_is_composed_by_default():
    assert related_items.related_of(CATALOGUE, ()) == {}
    rows = jnp.asarray(ITEMS)
    assert related_items.compose_rows(rows, {}, {}) is rows
