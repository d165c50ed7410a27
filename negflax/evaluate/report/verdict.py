"""A verdict in words on an evaluation: which scorer is ahead, how certain that is, what to try.

It depends only on `Result.metrics`. The model is compared with the best baseline that does not use
its scores (see `BASELINES`), by the paired interval of their ratio on the same users.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from negflax.evaluate.baselines import baseline_names
from negflax.evaluate.report.tabulate import short

NO_HISTORY = 0.5  # share of queries without a history above which the verdict has a warning


class Verdict(NamedTuple):
    """The verdict and its text.

    Attributes:
      outcome: `ahead`, `behind`, `level` (the interval contains a ratio of 1) or `undefined`.
      baseline: the best baseline, "" if there is none.
      metric: metric by which they are compared.
      text: two to five sentences.
    """

    outcome: str
    baseline: str
    metric: str
    text: str


def judge(metrics: Mapping[str, Any], k: int) -> Verdict:
    """Returns the verdict of an evaluation.

    Args:
      metrics: `Result.metrics`, with baselines.
      k: list length of the metrics that are compared.
    """
    metric = f"ndcg_p@{k}"
    model = metrics.get(metric)
    independent = baseline_names("item_based", "counts")
    values = {name: metrics.get(f"{name}/{metric}") for name in independent}
    values = {name: value for name, value in values.items() if value is not None}
    warning = history_warning(metrics)
    if model is None or not values:
        reason = "no query has a positive item" if model is None else "no baseline was evaluated"
        return Verdict("undefined", "", metric, _joined(f"No verdict: {reason}.", warning))
    best = max(values, key=values.__getitem__)
    low, high = (metrics.get(f"{metric}/vs_{best}_{end}") for end in ("low", "high"))
    if low is None or high is None or low <= 1 <= high:
        outcome = "level"
    else:
        outcome = "ahead" if low > 1 else "behind"
    head = f"{_HEADS[outcome]} {best}, on {metric}: {short(model)} against {short(values[best])}"
    if low is not None and high is not None:
        head += f", {_percent(low - 1)} to {_percent(high - 1)} (95 % interval)"
    head += f", {metrics.get(f'{metric}_n', 0):,} queries."
    advice = _advice(outcome, best, metrics.get(f"hr_n@{k}") is not None)
    return Verdict(
        outcome, best, metric, _joined(head, _negatives(metrics, best, k), advice, warning)
    )


def history_warning(metrics: Mapping[str, Any]) -> str:
    """Returns a sentence if most queries have no history, else an empty string."""
    queries, without = metrics.get("queries") or 0, metrics.get("users_without_history") or 0
    if not queries or without <= NO_HISTORY * queries:
        return ""
    return (
        f"Warning: {without:,} of {queries:,} test queries have no history, so these figures "
        "mostly describe new users; config.data.split='user_fraction' tests users known from "
        "training."
    )


_HEADS = {
    "ahead": "The model is ahead of the best baseline,",
    "behind": "The model is behind the best baseline,",
    "level": "The model cannot be told apart from the best baseline,",
}


def _negatives(metrics: Mapping[str, Any], best: str, k: int) -> str:
    """Returns a sentence that compares hr_n, with hr_p beside it: fewer hits lower both."""
    keys = [f"{name}@{k}" for name in ("hr_n", "hr_p")]
    model = [metrics.get(key) for key in keys]
    other = [metrics.get(f"{best}/{key}") for key in keys]
    low, high = (metrics.get(f"{keys[0]}/vs_{best}_{end}") for end in ("low", "high"))
    if None in (*model, *other, low, high):
        return ""
    word = "fewer" if high < 1 else "more" if low > 1 else "about as many"
    return (
        f"Its lists hold {word} disliked items: hr_n@{k} {short(model[0])} against "
        f"{short(other[0])}, at hr_p@{k} {short(model[1])} against {short(other[1])}."
    )


def _advice(outcome: str, best: str, negatives: bool) -> str:
    if outcome == "ahead" and not negatives:
        return "To try: more epochs, a larger config.model.hidden and config.model.embedding."
    if outcome == "ahead":
        return (
            "To try: a larger config.loss.omega for fewer disliked items, or `launch.sweep`, which "
            "chooses it on validation."
        )
    if best in baseline_names("item_based"):
        opening = (
            "An item-based linear model does better on this log."
            if outcome == "behind"
            else "An item-based linear model does as well on this log, at a fraction of the cost."
        )
        return (
            f"{opening} To try: longer histories (config.eval.history, config.batch.length), more "
            "epochs; docs/your_own_logs.md says when a recurrent model is the wrong tool."
        )
    if best in ("markov", "markov_5"):
        return (
            "The last items predict the next one best on this log. To try: more epochs, a larger "
            "config.model.hidden and config.model.embedding."
        )
    return (
        "The model has learnt little beyond popularity. To try: more epochs "
        "(config.train.epochs), a larger learning rate, or more data; docs/your_own_logs.md."
    )


def _percent(change: float) -> str:
    return f"{100 * change:+.0f} %".replace("-", "−")


def _joined(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)
