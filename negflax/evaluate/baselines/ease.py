"""EASE (Steck, 2019): a linear item-to-item model in closed form, and a signed variant of it.

    P = (XᵀX + λI)⁻¹,  B = I − P · diag(1 / P_jj),  scores = x⁺ B − c · x⁻ B

X_ui is 1 if user u gave positive feedback on item i, else 0; x⁺ and x⁻ mark the liked and disliked
items of a query's history. B is the ridge regression of each item's column on all other columns.
c = 0 is EASE; with c > 0, similarity to disliked items lowers a score.

    H. Steck: Embarrassingly Shallow Autoencoders for Sparse Data. WWW 2019.

Shapes: U users, R queries, V catalogue rows, A items with an interaction.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from negflax.data import Sequences
from negflax.evaluate.baselines.interactions import profiles
from negflax.evaluate.protocol import Queries, Scorer

ROWS_PER_BLOCK = 1024  # number of rows of the inverse that are mirrored at a time


@dataclasses.dataclass(frozen=True)
class Ease:
    """A fitted B, for the items with an interaction; the weights of all others are 0.

    Attributes:
      item_A: catalogue rows.
      weights_AA: float32, B; its diagonal is 0.
      num_rows: V.
    """

    item_A: np.ndarray
    weights_AA: np.ndarray
    num_rows: int

    def scores(self, profile_RV: sparse.csr_array) -> np.ndarray:
        """Returns x B for each profile x, float32 (R, V)."""
        scores_RV = np.zeros((profile_RV.shape[0], self.num_rows), np.float32)
        scores_RV[:, self.item_A] = profile_RV[:, self.item_A] @ self.weights_AA
        return scores_RV


def fit_ease(matrix_UV: sparse.csr_array, l2: float) -> Ease:
    """Fits B to an interaction matrix; needs the memory of one dense float32 (A, A) matrix.

    Args:
      matrix_UV: interactions, as 0 and 1.
      l2: λ > 0.

    Raises:
      LinAlgError: λ is too small for float32.
    """
    item_A = np.flatnonzero(np.asarray(matrix_UV.sum(axis=0)) > 0)
    if not len(item_A):
        return Ease(item_A, np.zeros((0, 0), np.float32), matrix_UV.shape[1])
    some_UA = matrix_UV[:, item_A]
    gram_AA = (some_UA.T @ some_UA).toarray(order="F")
    diagonal = np.diag_indices(len(item_A))
    gram_AA[diagonal] += l2
    # The matrix is positive definite: Cholesky, then the inverse, in place and in the lower half.
    factor_AA, failed = lapack.spotrf(gram_AA, lower=1, overwrite_a=1)
    inverse_AA, singular = lapack.spotri(factor_AA, lower=1, overwrite_c=1)
    if failed or singular:
        raise np.linalg.LinAlgError(
            f"XᵀX + {l2:g} I is not positive definite in float32: increase λ"
        )
    weights_AA = inverse_AA.T  # a view in C order, whose upper half is filled
    for start in range(0, len(item_A), ROWS_PER_BLOCK):
        rows = slice(start, start + ROWS_PER_BLOCK)
        weights_AA[rows, :start] = weights_AA[:start, rows].T
        block = weights_AA[rows, rows]
        weights_AA[rows, rows] = np.triu(block) + np.triu(block, 1).T
    weights_AA /= -weights_AA[diagonal].copy()
    weights_AA[diagonal] = 0
    return Ease(item_A, weights_AA, matrix_UV.shape[1])


def profile_scorer(
    sequences: Sequences,
    fitted: Ease,
    popularity_V: np.ndarray,
    c: float = 0.0,
    decay: float = 1.0,
) -> Scorer:
    """Returns the scorer of a fitted B.

    Args:
      sequences: events of all users.
      fitted: B.
      popularity_V: breaks ties.
      c: weight of the negative feedback in a query's history.
      decay: γ; positive feedback weighs γ to the number of events after it.
    """

    def score(queries: Queries) -> np.ndarray:
        profile_RV = profiles(sequences, queries, sequences.positive_weight_E, decay)
        if c:
            against_RV = profiles(sequences, queries, sequences.negative_weight_E)
            profile_RV = (profile_RV - np.float32(c) * against_RV).tocsr()
        return fitted.scores(profile_RV) + popularity_V

    return score
