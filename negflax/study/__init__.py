"""The comparative study of objectives: the effect of each on negative labels, and its cost."""

from negflax.study.anatomy import CASE, Case, case_outcomes, gradient_rows
from negflax.study.runs import Found, Runs
from negflax.study.settings import (
    ARMS,
    BASELINE,
    TRIALS,
    Contender,
    chosen,
    next_setting,
    on_front,
)

__all__ = [
    "ARMS",
    "BASELINE",
    "CASE",
    "TRIALS",
    "Contender",
    "Case",
    "Found",
    "Runs",
    "case_outcomes",
    "chosen",
    "gradient_rows",
    "next_setting",
    "on_front",
]
