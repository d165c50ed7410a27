"""The language of label rules: text of a config → conditions and weights; no data is touched here.

rule       condition [and condition …] [: weight]
condition  signal | signal OP number | signal == word      OP one of >= <= == > <
bucket     LO-HI: condition [and condition …]              LO ≤ duration in seconds < HI
"""

from __future__ import annotations

import dataclasses
import math
import re

from negflax.config import ConfigError

OPERATORS = (">=", "<=", "==", ">", "<")
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_CONDITION = re.compile(
    rf"\s*(?P<signal>[A-Za-z_]\w*)\s*"
    rf"(?:(?P<op>>=|<=|==|>|<)\s*(?:(?P<number>{_NUMBER})|'(?P<quoted>[^']*)'|(?P<word>[A-Za-z_]\w*))\s*)?"
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
            f"config.labels: `{text}` is no rule; write `signal` or `signal OP number`, OP one of "
            f"{' '.join(OPERATORS)}, several joined by `and`, and optionally a weight: `like`, "
            "`rating >= 4`, `dislike: 3`, `dismissal and reason == spam: 5`"
        )
    rule = Rule(conditions, float(match["weight"]) if match else 1.0)
    if rule.weight < 0:
        raise ConfigError(
            f"config.labels: `{text}` has a negative weight; list the rule under "
            f"labels.negative with a positive one, as in `{text[:end].strip()}: {-rule.weight:g}`"
        )
    return rule


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
                f"config.labels.skip: `{text}` is no duration bucket; write seconds and conditions "
                "as in `7-18: watch_ratio < .2 and dwell_s < 3`, the last one open: `18-: dwell_s "
                "< 3`"
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
        word = match["word"] if match["quoted"] is None else match["quoted"]
        if word is not None:
            if match["op"] != "==":
                break
            value = word
        found.append(Condition(match["signal"], match["op"], value))
        joint = _AND.match(text, match.end())
        if joint is None:
            return tuple(found), match.end()
        start = joint.end()
    return (), start


def _range(bucket: Bucket) -> str:
    return f"{bucket.low_s:g}-{'' if bucket.high_s == math.inf else format(bucket.high_s, 'g')}"
