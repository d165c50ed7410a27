"""Settings of the ranking evaluation."""

from __future__ import annotations

import dataclasses
from typing import Literal

from negflax.config.kinds import Count, Natural, NotNegative

# What validation measures, as negflax/evaluate/metrics.py names it: at every K, at every K and λ,
# and without a list.
AT_K = (
    "precision",
    "recall",
    "anti_precision",
    "ndcg_p",
    "anti_ndcg",
    "coverage",
    "coverage_macro",
    "avoidance",
    "hr_p",
    "hr_n",
    "delta",
    "negative_precision",
    "negative_f1",
)
AT_LAMBDA = ("dcg", "ndcg_signed", "ndcg_minmax", "utility")
WITHOUT_LIST = ("auc", "weighted_loss", "positive_rank", "negative_rank")


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Full-catalogue ranking (docs/method.md §5 and 6).

    Attributes:
      ks: list lengths K.
      lambdas: values of λ, what a listed negative costs in units of a listed positive.
      history: newest events of a user that the encoder reads.
      users_per_block: queries that are scored at a time.
      state: from which state a user is asked. `last_only`: once, at the start of the period, with
        all its events judged. `successive`: before each labelled event, from the state just before
        it, with that event judged.
      valid_users: users (a fixed sample) in the validations during training; 0 means all.
      loss_weight_negative: w⁻ of the weighted loss, metric 9, with w⁺ = 1.
      negative_popularity: c of the baseline that scores an item by its positives − c × its
        negatives.
      rate_betas: values of β of the baseline model + β·log(item's positive rate); the one with the
        best delta at the first K on the validation period is used.
      bootstrap: resamples of the user-clustered paired bootstrap.
      seed: of samples, random baseline and bootstrap.
    """

    ks: tuple[Count, ...] = (10, 20)
    lambdas: tuple[NotNegative, ...] = (0.0, 1.0, 2.0, 5.0)
    history: Count = 100
    users_per_block: Count = 256
    state: Literal["last_only", "successive"] = "last_only"
    valid_users: Natural = 2_000
    loss_weight_negative: NotNegative = 3.0
    negative_popularity: float = 1.0
    rate_betas: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    bootstrap: Natural = 10_000
    seed: Natural = 0


def measured(config: EvalConfig) -> tuple[str, ...]:
    """Names of the metrics of a validation, such as `ndcg_p@10`: what `train.metric` may be."""
    at_k = [f"{name}@{k}" for k in config.ks for name in AT_K]
    at_lambda = [
        f"{name}@{k}/lambda={one:g}"
        for k in config.ks
        for name in AT_LAMBDA
        for one in config.lambdas
    ]
    return (*at_k, *at_lambda, *WITHOUT_LIST)
