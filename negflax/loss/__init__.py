"""The loss: one masked log-sum-exp per user state serves the positive and the negative term."""

from negflax.loss.labels import Labels, margins
from negflax.loss.logsumexp import candidate_logsumexp, combine_over
from negflax.loss.objectives import OBJECTIVES, Scalars, ntr, ssm
from negflax.loss.total import label_logsumexp, objective_sum

__all__ = [
    "OBJECTIVES",
    "Labels",
    "Scalars",
    "candidate_logsumexp",
    "combine_over",
    "label_logsumexp",
    "margins",
    "ntr",
    "objective_sum",
    "ssm",
]
