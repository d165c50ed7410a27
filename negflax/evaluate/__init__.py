"""Full-catalogue evaluation: queries, exact ranks, metrics with intervals, baselines, reports.

A *scorer* is any callable that maps a block of `Queries` to scores over the catalogue; models and
baselines are evaluated by the same code. The modules of `report` that draw need matplotlib and have
to be imported by name.
"""

from negflax.evaluate.baselines.markov import default_baselines, markov_scorer
from negflax.evaluate.baselines.popularity import (
    popularity_scorer,
    random_scorer,
)
from negflax.evaluate.bootstrap import interval, paired_bootstrap
from negflax.evaluate.metrics import QueryValues, aggregate, query_values
from negflax.evaluate.protocol import EvaluationError, Queries, Scorer, build_queries
from negflax.evaluate.ranking import Ranks, rank_queries
from negflax.evaluate.report.tabulate import format_table, summary_rows
from negflax.evaluate.scoreboard import Result, evaluate_scorer, evaluate_scorers, metric_key

__all__ = [
    "EvaluationError",
    "Ranks",
    "QueryValues",
    "Queries",
    "Result",
    "Scorer",
    "aggregate",
    "build_queries",
    "default_baselines",
    "evaluate_scorer",
    "evaluate_scorers",
    "format_table",
    "interval",
    "markov_scorer",
    "metric_key",
    "paired_bootstrap",
    "popularity_scorer",
    "random_scorer",
    "rank_queries",
    "query_values",
    "summary_rows",
]
