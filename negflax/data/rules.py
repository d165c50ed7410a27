"""The language of label rules: text of a config → conditions and weights; no data is touched here.

rule       condition [and condition …] [: weight]
condition  signal | signal OP number | signal == word      OP one of >= <= == > <
signal     name | `any name`                               word may stand in quotes of either kind
bucket     LO-HI: condition [and condition …]              LO ≤ duration in seconds < HI
"""

from __future__ import annotations

import dataclasses
import math
import re

from negflax.config import ConfigError, LabelConfig

OPERATORS = (">=", "<=", "==", ">", "<")
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_CONDITION = re.compile(
    rf"\s*(?:(?P<signal>[^\W\d]\w*)|`(?P<name>[^`]+)`)\s*"
    rf"(?:(?P<op>>=|<=|==|>|<)\s*(?:(?P<number>{_NUMBER})|'(?P<quoted>[^']*)'"
    rf'|"(?P<double>[^"]*)"|(?P<word>[^\W\d]\w*))\s*)?'
)
_AND = re.compile(r"and\b")
_WEIGHT = re.compile(rf":\s*(?P<weight>{_NUMBER})\s*")
_BUCKET = re.compile(r"\s*(?P<low>\d+\.?\d*|\.\d+)\s*-\s*(?P<high>\d+\.?\d*|\.\d+)?\s*:")


@dataclasses.dataclass(frozen=True)
class Condition:
    """`signal`, or `signal op value`; the value is a word where the signal is text."""

    signal: str
    op: str | None = None
    value: float | str = 0.0


@dataclasses.dataclass(frozen=True)
class Rule:
    """Conditions that must all hold, and the weight of the label that they make."""

    conditions: tuple[Condition, ...]
    weight: float = 1.0

    @property
    def signal(self) -> str:
        """The first condition's signal: it says whether the rule is explicit, and when it spoke."""
        return self.conditions[0].signal


@dataclasses.dataclass(frozen=True)
class Bucket:
    """Conditions of a skip among the items of low_s ≤ duration < high_s seconds."""

    low_s: float
    high_s: float
    conditions: tuple[Condition, ...]


def parse_rule(text: str) -> Rule:
    """Reads a rule such as `like`, `rating >= 4`, `dislike: 3` or `skip and dwell_s < 1: 2`.

    Raises:
      ConfigError: the text is no rule or its weight is negative; the message shows one that is.
    """
    conditions, end = _conditions(text, 0)
    match = _WEIGHT.match(text, end)
    if not conditions or (match.end() if match else end) < len(text):
        raise ConfigError(
            f"config.labels: `{text}` is not a rule; write `signal` or `signal OP number`, with OP "
            f"one of {' '.join(OPERATORS)}, several joined by `and`, and optionally a weight: "
            "`like`, `rating >= 4`, `dislike: 3`, `dismissal and reason == spam: 5`; put names "
            "with other characters in backticks, \\`my signal\\` >= 4"
        )
    rule = Rule(conditions, float(match["weight"]) if match else 1.0)
    if rule.weight < 0:
        raise ConfigError(
            f"config.labels: `{text}` has a negative weight; list the rule under "
            f"labels.negative with a positive one, as in `{text[:end].strip()}: {-rule.weight:g}`"
        )
    return rule


def asked(labels: LabelConfig) -> dict[str, str]:
    """How the rules ask for each signal: `number`, `bit` or `text`; rules of weight 0 ask nothing.

    Raises:
      ConfigError: a text is no rule or no bucket.
    """
    rules = [parse_rule(text) for text in (*labels.positive, *labels.negative)]
    groups = [rule.conditions for rule in rules if rule.weight > 0]
    groups += [bucket.conditions for bucket in parse_buckets(labels.skip)]
    found: dict[str, str] = {}
    for condition in (condition for group in groups for condition in group):
        how = "text" if isinstance(condition.value, str) else "number" if condition.op else "bit"
        before = found.get(condition.signal, how)
        found[condition.signal] = max(before, how, key=("bit", "number", "text").index)
    return found


def parse_buckets(texts: tuple[str, ...]) -> list[Bucket]:
    """Reads config.labels.skip, such as `7-18: watch_ratio < .2 and dwell_s < 3`; sorted.

    Raises:
      ConfigError: a text is no bucket, a range is empty or two of them overlap.
    """
    buckets = []
    for text in texts:
        head = _BUCKET.match(text)
        conditions, end = _conditions(text, head.end()) if head else ((), 0)
        if not conditions or end < len(text):
            raise ConfigError(
                f"config.labels.skip: `{text}` is not a duration bucket; write seconds and "
                "conditions as in `7-18: watch_ratio < .2 and dwell_s < 3`; the last bucket has no "
                "end: `18-: dwell_s < 3`"
            )
        low, high = float(head["low"]), float(head["high"] or math.inf)
        if low >= high:
            raise ConfigError(
                f"config.labels.skip: `{text}` holds no duration: write the smaller number first"
            )
        buckets.append(Bucket(low, high, conditions))
    buckets.sort(key=lambda bucket: bucket.low_s)
    for one, other in zip(buckets, buckets[1:], strict=False):
        if other.low_s < one.high_s:
            raise ConfigError(
                f"config.labels.skip: the buckets {_range(one)} and {_range(other)} overlap: give "
                "each duration one bucket"
            )
    return buckets


def _conditions(text: str, start: int) -> tuple[tuple[Condition, ...], int]:
    """(conditions joined by `and`, where they end); none where the text breaks off."""
    found = []
    while match := _CONDITION.match(text, start):
        value: float | str = float(match["number"] or 0)
        words = (match[name] for name in ("quoted", "double", "word"))
        word = next((word for word in words if word is not None), None)
        if word is not None:
            if match["op"] != "==":
                break
            value = word
        found.append(Condition(match["signal"] or match["name"], match["op"], value))
        joint = _AND.match(text, match.end())
        if joint is None:
            return tuple(found), match.end()
        start = joint.end()
    return (), start


def _range(bucket: Bucket) -> str:
    return f"{bucket.low_s:g}-{'' if bucket.high_s == math.inf else format(bucket.high_s, 'g')}"
