"""The comparative study of objectives: what each does to a negative label, and what it costs."""

from negflax.study.anatomy import CASE, Case, case_outcomes, gradient_rows
from negflax.study.runs import Found, Runs
from negflax.study.settings import (
    ARMS,
    BASELINE,
    TRIALS,
    Contender,
    chosen,
    next_strength,
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
    "next_strength",
    "on_front",
]
