"""The loss: one masked log-sum-exp per user state serves the positive and the negative term."""

from negflax.loss.logsumexp import candidate_logsumexp, combine_over
from negflax.loss.objectives import OBJECTIVES, margins, ntr, ssm
from negflax.loss.total import objective_sum

__all__ = [
    "OBJECTIVES",
    "candidate_logsumexp",
    "combine_over",
    "margins",
    "ntr",
    "objective_sum",
    "ssm",
]
