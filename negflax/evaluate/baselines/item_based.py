"""The item-based baselines EASE, its variants, item-kNN and ALS, tuned on the validation period.

λ of EASE, γ of ease_recent and als, and the number of neighbours of item_knn maximise ndcg_p at the
first K; c of ease_signed maximises delta. For tuning, the baselines are fitted to the training
period only. With the chosen settings they are then fitted to all events that the model was trained
on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from negflax.config import EvalConfig
from negflax.data import Sequences
from negflax.evaluate.baselines.als import als_scorer, available, fit_als
from negflax.evaluate.baselines.ease import fit_ease, profile_scorer
from negflax.evaluate.baselines.interactions import interactions, tie_break
from negflax.evaluate.baselines.item_knn import nearest, neighbour_scorer
from negflax.evaluate.metrics import aggregate, query_values
from negflax.evaluate.protocol import EvaluationError, Scorer, build_queries
from negflax.evaluate.ranking import rank_queries

MAX_ITEMS = 20_000  # EASE needs a dense item × item matrix: 1.6 GB for this many
EASE_L2 = (200.0, 50.0, 1_000.0)  # the first of each is the default without a validation period
RECENT_DECAY = (0.9, 0.8, 0.95, 0.98)
SIGNED_C = (0.5, 0.25, 1.0)
NEIGHBOURS = (100, 20, 50, 200)
ALS_DECAY = (1.0, 0.9, 0.8)


def item_baselines(
    sequences: Sequences, splits: tuple[str, ...], config: EvalConfig
) -> tuple[dict[str, Scorer], dict[str, float]]:
    """Fits `ease`, `ease_recent`, `ease_signed`, `item_knn` and, where it can, `als`.

    Args:
      sequences: events of all users.
      splits: splits whose events the baselines are fitted to.
      config: list lengths and the validation sample.

    Returns:
      The scorers and the chosen settings, by name; both are empty if the catalogue has more than
      `MAX_ITEMS` items. The settings include `item_baselines/tuned`: 1, or 0 if there is no
      validation period, so that the defaults are used.
    """
    if sequences.catalogue.num_rows - 1 > MAX_ITEMS:
        return {}, {}
    choose = _choice(sequences, config)
    matrix_UV = interactions(sequences, ("train",), sequences.positive_weight_E)
    popularity_V, neighbours = tie_break(matrix_UV), nearest(matrix_UV, max(NEIGHBOURS))

    def ease_with(l2: float) -> Scorer:
        return profile_scorer(sequences, fit_ease(matrix_UV, l2), popularity_V)

    def recent_with(decay: float) -> Scorer:
        return profile_scorer(sequences, fitted, popularity_V, decay=decay)

    def signed_with(c: float) -> Scorer:
        return profile_scorer(sequences, fitted, popularity_V, c)

    def knn_with(k: int) -> Scorer:
        return neighbour_scorer(sequences, neighbours, k, popularity_V)

    def als_with(decay: float) -> Scorer:
        return als_scorer(sequences, factors, popularity_V, decay)

    factors = fit_als(matrix_UV, config.seed) if available() else None
    als_decay = choose(als_with, ALS_DECAY, "ndcg_p") if factors else 1.0
    k = choose(knn_with, NEIGHBOURS, "ndcg_p")
    l2 = choose(ease_with, EASE_L2, "ndcg_p")
    fitted = fit_ease(matrix_UV, l2)
    decay = choose(recent_with, RECENT_DECAY, "ndcg_p")
    c = choose(signed_with, SIGNED_C, "delta")
    if set(splits) != {"train"}:
        matrix_UV = interactions(sequences, splits, sequences.positive_weight_E)
        popularity_V, neighbours = tie_break(matrix_UV), nearest(matrix_UV, k)
        fitted = fit_ease(matrix_UV, l2)
        factors = fit_als(matrix_UV, config.seed) if factors else None
    scorers = {
        "ease": profile_scorer(sequences, fitted, popularity_V),
        "ease_recent": recent_with(decay),
        "ease_signed": signed_with(c),
        "item_knn": knn_with(k),
    }
    settings = {"ease/l2": l2, "ease_recent/decay": decay, "ease_signed/c": c}
    settings["item_knn/neighbours"] = k
    if factors:
        scorers["als"] = als_with(als_decay)
        settings["als/decay"] = als_decay
    return scorers, settings | {"item_baselines/tuned": int(choose is not _first)}


Choose = Callable[[Callable[..., Scorer], Sequence[float], str], float]


def _choice(sequences: Sequences, config: EvalConfig) -> Choose:
    """Returns a function that chooses the setting with the largest metric on validation."""
    try:
        queries = build_queries(sequences, "valid", config.valid_users, config.seed, config.state)
    except EvaluationError:  # no label in that period
        return _first

    def choose(build: Callable[..., Scorer], settings: Sequence[float], metric: str) -> float:
        values = []
        for setting in settings:
            ranks = rank_queries(build(setting), queries, sequences, True, config.users_per_block)
            values.append(
                aggregate(query_values(ranks, queries, config))[f"{metric}@{config.ks[0]}"]
            )
        return settings[int(np.argmax(np.nan_to_num(values, nan=-np.inf)))]

    return choose


def _first(build: Callable[..., Scorer], settings: Sequence[float], metric: str) -> float:
    del build, metric
    return settings[0]
