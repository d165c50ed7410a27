"""ALS: factors of implicit feedback (Hu et al. 2008), by the package `implicit`.

It is in the scoreboard where `implicit` is installed (extra `als`). Items have the factors of the
fit; a query's user gets those that its history gives by one least-squares step, so that users are
scored by all their events, as by the other baselines.

    Y. Hu, Y. Koren, C. Volinsky: Collaborative Filtering for Implicit Feedback Datasets. ICDM 2008.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from scipy import sparse

from negflax.data import Sequences
from negflax.evaluate.baselines.interactions import profiles
from negflax.evaluate.protocol import Queries, Scorer

FACTORS, ITERATIONS, CONFIDENCE, L2 = 64, 15, 10.0, 1.0


def available() -> bool:
    """Whether `implicit` is installed."""
    return importlib.util.find_spec("implicit") is not None


def fit_als(matrix_UV: sparse.csr_array, seed: int) -> Any:
    """A fitted model of `implicit`.

    Args:
      matrix_UV: interactions, as 0 and 1.
      seed: of the start values.
    """
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):  # implicit has threads of its own
        model = AlternatingLeastSquares(
            factors=FACTORS,
            regularization=L2,
            alpha=CONFIDENCE,
            iterations=ITERATIONS,
            random_state=seed,
        )
        model.fit(sparse.csr_matrix(matrix_UV), show_progress=False)
    return model


def als_scorer(
    sequences: Sequences, fitted: Any, popularity_V: np.ndarray, decay: float = 1.0
) -> Scorer:
    """Returns the scorer of a fitted model.

    Args:
      sequences: events of all users.
      fitted: of `fit_als`.
      popularity_V: breaks ties.
      decay: γ; positive feedback weighs γ to the number of events after it.
    """

    def score(queries: Queries) -> np.ndarray:
        profile_RV = profiles(sequences, queries, sequences.positive_weight_E, decay)
        users_RF = fitted.recalculate_user(
            np.arange(len(queries)), sparse.csr_matrix(profile_RV)
        ).reshape(len(queries), -1)
        return users_RF @ fitted.item_factors.T + popularity_V

    return score
