"""The loss: one masked log-sum-exp per user state serves the positive and the negative term."""

from negflax.loss.labels import ExtraColumns, LabelBatch, Labels, margins
from negflax.loss.logsumexp import (
    CandidateSet,
    KernelOptions,
    candidate_logsumexp,
    combine_over,
    label_logsumexp,
)
from negflax.loss.objectives import OBJECTIVES, Scalars, ntr, register_objective, ssm
from negflax.loss.one_call import ntr_loss
from negflax.loss.total import objective_sum

__all__ = [
    "OBJECTIVES",
    "CandidateSet",
    "ExtraColumns",
    "KernelOptions",
    "LabelBatch",
    "Labels",
    "Scalars",
    "candidate_logsumexp",
    "combine_over",
    "label_logsumexp",
    "margins",
    "ntr",
    "ntr_loss",
    "objective_sum",
    "register_objective",
    "ssm",
]
