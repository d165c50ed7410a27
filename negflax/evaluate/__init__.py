"""Full-catalogue evaluation: requests, exact ranks, metrics with intervals, floors, reports.

A *scorer* is any callable that turns a block of `Requests` into scores over the catalogue; models
and floors go through the same path. `report` and `plots` draw (matplotlib) and are imported by
name.
"""

from negflax.evaluate.bootstrap import interval, paired_bootstrap
from negflax.evaluate.floors import default_floors, markov_scorer, popularity_scorer, random_scorer
from negflax.evaluate.metrics import RequestValues, aggregate, request_values
from negflax.evaluate.protocol import EvaluationError, Requests, Scorer, build_requests
from negflax.evaluate.ranking import Ranks, rank_requests
from negflax.evaluate.scoreboard import Result, evaluate_scorer, evaluate_scorers, metric_key
from negflax.evaluate.tabulate import format_table, summary_rows

__all__ = [
    "EvaluationError",
    "Ranks",
    "RequestValues",
    "Requests",
    "Result",
    "Scorer",
    "aggregate",
    "build_requests",
    "default_floors",
    "evaluate_scorer",
    "evaluate_scorers",
    "format_table",
    "interval",
    "markov_scorer",
    "metric_key",
    "paired_bootstrap",
    "popularity_scorer",
    "random_scorer",
    "rank_requests",
    "request_values",
    "summary_rows",
]
