"""Item-based nearest neighbours: cosine similarity of item columns, k neighbours per item.

The similarity and the score::

    cos(i, j) = |U_i ∩ U_j| / √(|U_i| · |U_j|),  score of i = Σ cos(i, j) over liked j among i's k

U_i are the users with positive feedback on i (B. Sarwar et al.: Item-Based Collaborative Filtering
Recommendation Algorithms. WWW 2001).

Shapes: U users, R queries, V catalogue rows, K neighbours, C items of a block.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import sparse

from negflax.data import Sequences
from negflax.evaluate.baselines.interactions import profiles
from negflax.evaluate.protocol import Queries, Scorer

COSINES_ALIVE = 2**22


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """The nearest other items of each item, nearest first; ties go to the lower row.

    Attributes:
      item_VK: int64 catalogue rows.
      cosine_VK: float32; 0 if an item has fewer neighbours.
    """

    item_VK: np.ndarray
    cosine_VK: np.ndarray

    def weights(self, k: int) -> sparse.csc_array:
        """Returns float32 (V, V), whose column i has the cosines of the k items nearest to i."""
        cosine_VK = self.cosine_VK[:, :k]
        near = cosine_VK > 0
        item_V = np.arange(len(cosine_VK))
        pairs = self.item_VK[:, :k][near], np.repeat(item_V, near.sum(axis=1))
        return sparse.csc_array((cosine_VK[near], pairs), shape=(len(item_V), len(item_V)))


def nearest(matrix_UV: sparse.csr_array, k: int) -> Neighbours:
    """Finds the k nearest items of each item, for a block of items at a time.

    Args:
      matrix_UV: positive interactions, as 0 and 1.
      k: neighbours per item; fewer if the catalogue is smaller.
    """
    num_rows = matrix_UV.shape[1]
    k = min(k, num_rows - 1)
    count_V = np.maximum(np.asarray(matrix_UV.sum(axis=0), np.float64), 1)
    columns_UV = matrix_UV.tocsc()
    item_VK, cosine_VK = np.zeros((num_rows, k), np.int64), np.zeros((num_rows, k), np.float32)
    size = max(1, COSINES_ALIVE // num_rows)
    for start in range(0, num_rows, size):
        rows = np.arange(start, min(start + size, num_rows))
        both_CV = (columns_UV[:, rows].T @ columns_UV).toarray()
        both_CV[np.arange(len(rows)), rows] = 0  # an item is not its own neighbour
        cosine_CV = (both_CV / np.sqrt(count_V[rows, None] * count_V)).astype(np.float32)
        # The bits of floats ≥ 0 sort like the floats; the lower bits have the row, to break ties.
        key_CV = cosine_CV.view(np.int32).astype(np.int64) << 32
        key_CV += num_rows - np.arange(num_rows)
        chosen_CK = np.argpartition(-key_CV, k - 1, axis=1)[:, :k]
        order_CK = np.argsort(-np.take_along_axis(key_CV, chosen_CK, axis=1), axis=1)
        item_VK[rows] = np.take_along_axis(chosen_CK, order_CK, axis=1)
        cosine_VK[rows] = np.take_along_axis(cosine_CV, item_VK[rows], axis=1)
    return Neighbours(item_VK, cosine_VK)


def neighbour_scorer(
    sequences: Sequences, neighbours: Neighbours, k: int, popularity_V: np.ndarray
) -> Scorer:
    """Returns the scorer of given neighbours, using the first k; popularity breaks ties."""
    weights_VV = neighbours.weights(k)

    def score(queries: Queries) -> np.ndarray:
        liked_RV = profiles(sequences, queries, sequences.positive_weight_E)
        return (liked_RV @ weights_VV).toarray() + popularity_V

    return score
