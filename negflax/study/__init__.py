"""The comparative study of objectives: what each does to a negative label, and what it costs."""

from negflax.study.anatomy import CASE, Case, case_outcomes, gradient_rows
from negflax.study.settings import SETTINGS, chosen, on_front, seed_interval

__all__ = [
    "CASE",
    "SETTINGS",
    "Case",
    "case_outcomes",
    "chosen",
    "gradient_rows",
    "on_front",
    "seed_interval",
]
