"""Feedback → labels: which event is a positive (weight r), a negative (weight w) or neither.

SPEC section 5.7: an explicit negative (dislike, dismissal) beats a positive, a positive beats every
other negative, so no event is both. Null feedback is unknown and matches no rule.
"""

from __future__ import annotations

import dataclasses
import operator
import re

import numpy as np
import pyarrow as pa

from negflax.config import ConfigError, LabelConfig
from negflax.data.columns import floats, is_number
from negflax.data.schema import NOT_SIGNALS

EXPLICIT = ("dislike", "dismissal")
_OPERATORS = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RULE = re.compile(
    rf"\s*(?P<signal>[A-Za-z_]\w*)\s*(?:(?P<op>>=|<=|==|>|<)\s*(?P<value>{_NUMBER})\s*)?"
    rf"(?::\s*(?P<weight>{_NUMBER})\s*)?"
)


@dataclasses.dataclass(frozen=True)
class Rule:
    """`signal`, or `signal op value`, and the weight of the label that it makes."""

    signal: str
    op: str | None = None
    value: float = 0.0
    weight: float = 1.0


def parse_rule(text: str) -> Rule:
    """Reads a rule such as `like`, `rating >= 4` or `dislike: 3`.

    Raises:
      ConfigError: the text is no rule or its weight is negative; the message shows one that is.
    """
    match = _RULE.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"config.labels: `{text}` is no rule; write `signal` or `signal OP number`, OP one of "
            f"{' '.join(_OPERATORS)}, and optionally a weight: `like`, `rating >= 4`, `dislike: 3`"
        )
    weight = float(match["weight"] or 1)
    if weight < 0:
        raise ConfigError(
            f"config.labels: `{text}` has a negative weight; list the rule under "
            f"labels.negative with a positive one, as in `{match['signal']}: {-weight:g}`"
        )
    return Rule(match["signal"], match["op"], float(match["value"] or 0), weight)


def label_weights(events: pa.Table, labels: LabelConfig) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the events as labels; of several matching rules the largest weight counts.

    Args:
      events: a validated event log of E rows.
      labels: the rules; one of weight 0 is off, as if it were not there.

    Returns:
      (positive_weight_E, negative_weight_E) float32 ≥ 0, never both above 0.

    Raises:
      ConfigError: a bad rule or a signal that the log lacks; the message lists those it has.
    """
    positive_E = _largest(events, [parse_rule(text) for text in labels.positive])
    rules = [parse_rule(text) for text in labels.negative]
    negative_E = _largest(events, rules)
    explicit_E = _largest(events, [rule for rule in rules if rule.signal in EXPLICIT])
    negative_E[(positive_E > 0) & (explicit_E == 0)] = 0
    positive_E[negative_E > 0] = 0
    return positive_E, negative_E


def _largest(events: pa.Table, rules: list[Rule]) -> np.ndarray:
    weight_E = np.zeros(events.num_rows, np.float32)
    for rule in rules:
        if rule.weight > 0:
            np.maximum(weight_E, rule.weight, out=weight_E, where=_matches(events, rule))
    return weight_E


def _matches(events: pa.Table, rule: Rule) -> np.ndarray:
    signals = {
        field.name: field.type
        for field in events.schema
        if field.name not in NOT_SIGNALS
        and (is_number(field.type) or pa.types.is_boolean(field.type))
    }
    if rule.signal not in signals:
        raise ConfigError(
            f"config.labels: the log has no signal `{rule.signal}`; it has: {', '.join(signals)}"
        )
    value_E = floats(events[rule.signal])  # null is NaN, which fails every comparison below
    if rule.op is not None:
        return _OPERATORS[rule.op](value_E, rule.value)
    if not pa.types.is_boolean(signals[rule.signal]):
        raise ConfigError(
            f"config.labels: `{rule.signal}` is a number; compare it, as in `{rule.signal} >= 4`"
        )
    return value_E == 1
