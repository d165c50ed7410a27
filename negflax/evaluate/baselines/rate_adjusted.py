"""Baselines built on the model's own scores: rate-adjusted scores and filters of dislikes."""

from __future__ import annotations

import numpy as np

from negflax.config import EvalConfig
from negflax.data import Sequences
from negflax.evaluate.baselines.filters import block_creator, drop_disliked
from negflax.evaluate.baselines.popularity import rate_adjusted
from negflax.evaluate.metrics import aggregate, query_values
from negflax.evaluate.protocol import EvaluationError, Scorer, build_queries
from negflax.evaluate.ranking import rank_scorers


def model_baselines(
    scorer: Scorer, sequences: Sequences, splits: tuple[str, ...], config: EvalConfig
) -> tuple[dict[str, Scorer], dict[str, float]]:
    """Returns the baselines, and figures about them, by name; item rates count `splits`."""
    beta = best_beta(scorer, sequences, splits, config)
    baselines = {
        "rate_adjusted": rate_adjusted(scorer, sequences, splits, beta),
        "block_creator": block_creator(scorer, sequences),
        "drop_disliked": drop_disliked(scorer, sequences),
    }
    return baselines, {"rate_adjusted/beta": beta}


def best_beta(
    scorer: Scorer, sequences: Sequences, splits: tuple[str, ...], config: EvalConfig
) -> float:
    """Returns the β of `rate_adjusted` with the largest delta on the validation period.

    delta is that at the first K. If the period has no positive or no negative labels, the first of
    `rate_betas` is returned.
    """
    try:
        queries = build_queries(sequences, "valid", config.valid_users, config.seed, config.state)
    except EvaluationError:
        return config.rate_betas[0]
    scorers = {
        str(beta): rate_adjusted(scorer, sequences, splits, beta) for beta in config.rate_betas
    }
    ranks = rank_scorers(scorers, queries, sequences, (True,), config.users_per_block)
    deltas = [
        aggregate(query_values(one, queries, config))[f"delta@{config.ks[0]}"]
        for one in ranks.values()
    ]
    return config.rate_betas[int(np.argmax(np.nan_to_num(deltas, nan=-np.inf)))]
