"""Metrics of the lists that do not depend on feedback: coverage and diversity (docs/method.md §6).

Here ties are broken by catalogue row, the lower one first. (The metrics of judged items, in
metrics.py, are expectations over all orders of tied items.)

Shapes: R queries, K list length, V catalogue rows, C clusters of an item.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from negflax.data import Catalogue


def catalogue_coverage(list_RK: np.ndarray, num_rows: int) -> float:
    """Returns the share of items that are in at least one list; row 0 pads short lists."""
    return (len(np.union1d(list_RK, [0])) - 1) / (num_rows - 1)


def diversity(list_RK: np.ndarray, catalogue: Catalogue) -> dict[str, np.ndarray]:
    """Returns intra-list diversity by creator and by cluster (Ziegler et al., WWW 2005).

    Args:
      list_RK: catalogue rows; 0 pads short lists.
      catalogue: creators and clusters of the items, 0 if unknown.

    Returns:
      `creator_diversity` and `cluster_diversity`, float64 (R,): the share of a list's pairs of
      items that have no creator (no cluster) in common, among pairs where both are known; NaN if
      there is no such pair.
    """
    groups = {
        "creator_diversity": catalogue.creator_V[:, None],
        "cluster_diversity": catalogue.clusters_VC,
    }
    return {name: _apart(list_RK, group_VC) for name, group_VC in groups.items()}


def _apart(list_RK: np.ndarray, group_VC: np.ndarray, block: int = 256) -> np.ndarray:
    if not group_VC.any():
        return np.full(len(list_RK), np.nan)
    count = -(-len(list_RK) // block)
    padded_RK = np.pad(list_RK, ((0, count * block - len(list_RK)), (0, 0)))
    blocks_RK = padded_RK.reshape(count, block, list_RK.shape[1])
    sums = [np.asarray(_pairs(group_VC[one_RK])) for one_RK in blocks_RK]
    apart_R, known_R = np.concatenate(sums, axis=1)[:, : len(list_RK)].astype(np.float64)
    return np.where(known_R > 0, apart_R / np.maximum(known_R, 1), np.nan)


@functools.partial(jax.jit)
def _pairs(group_RKC: jax.Array) -> jax.Array:
    """Returns float32 (2, R): pairs of different groups, and all pairs of known groups."""
    known_RK = (group_RKC > 0).any(axis=2)
    shared_RKK = jnp.zeros((*group_RKC.shape[:2], group_RKC.shape[1]), bool)
    for group_RK in jnp.moveaxis(group_RKC, 2, 0):  # needs K²·C numbers at a time, not (K·C)²
        same_RKKC = group_RK[:, :, None, None] == group_RKC[:, None]
        shared_RKK |= (same_RKKC & (group_RK > 0)[:, :, None, None]).any(axis=3)
    pairs_RKK = known_RK[:, :, None] & known_RK[:, None] & ~jnp.eye(group_RKC.shape[1], dtype=bool)
    return jnp.stack([(pairs_RKK & ~shared_RKK).sum((1, 2)), pairs_RKK.sum((1, 2))]).astype(
        jnp.float32
    )
