"""Label rules that match no event: told before anything is trained, with the values there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from absl import logging

from negflax.config import LabelConfig
from negflax.data.cells import DataError
from negflax.data.columns import flat
from negflax.data.rules import parse_buckets, parse_rule
from negflax.data.signals import Signals

SIGNS = ("positive", "negative")
SHOWN = 5  # values of a text column


Counts = dict[str, dict[str, int]]  # sign → rule → events that it matches by itself


def match_report(
    accumulator: Mapping[tuple[str, ...], int],
    log: Any,
    items: pa.Table | None,
    labels: LabelConfig,
) -> dict[str, Any]:
    """What data_report.json says of the rules; `require_matches` reads it.

    Args:
      accumulator: ("rule", sign, text) → events that it matches by itself, of the whole log.
      log: event_arrays.ValidLog.
      items: validated item table.
      labels: the rules.

    Returns:
      `rule_matches`, and of rules without a match `rules_without_match`: what their signals hold.
    """
    matches: dict[str, dict[str, int]] = {sign: {} for sign in SIGNS}
    silent: dict[str, str] = {}
    for key, num in accumulator.items():
        if key[0] == "rule":
            matches[key[1]][key[2]] = num
            if not num:
                silent[key[2]] = _values(key[2], log.parts, items, labels)
                logging.warning("%s: no event matches `%s`: %s", log.name, key[2], silent[key[2]])
    first = {parse_rule(text).signal for text in labels.negative}
    unused = [n for n in labels.explicit if n not in first and n not in LabelConfig().explicit]
    if unused:
        logging.warning(
            "%s: config.labels.explicit names %s, and no negative rule begins with it",
            log.name,
            ", ".join(unused),
        )
    return {"rule_matches": matches} | ({"rules_without_match": silent} if silent else {})


def require_matches(report: Mapping[str, Any]) -> None:
    """Refuses to train on labels of which no rule of a sign matches.

    Args:
      report: of Sequences.

    Raises:
      DataError: no positive rule, or no negative one, matches any event, or no positive is left.
    """
    silent = report.get("rules_without_match", {})
    for sign, counts in report.get("rule_matches", {}).items():
        if counts and not any(counts.values()):
            told = "; ".join(f"`{rule}` ({silent[rule]})" for rule in counts)
            raise DataError(
                f"{report['source']}: config.labels.{sign}: no event matches {told}. Correct its "
                "values, or remove the rule"
            )
    if "splits" in report and report.get("rule_matches", {}).get("positive"):
        require_positives(report["splits"]["train"]["positives"], report["source"])


def require_positives(count: int, name: str) -> None:
    """Refuses to train without a positive.

    Raises:
      DataError: there is none, as where each event that a positive rule matches is a negative.
    """
    if not count:
        raise DataError(
            f"{name}: no event is left as a positive to train on: those that a rule of "
            "config.labels.positive matches are negatives too, which win (config.labels.explicit), "
            "or lie outside of the training period. Change the rules, or the split"
        )


def _values(rule: str, parts: Any, items: pa.Table | None, labels: LabelConfig) -> str:
    """What the signals of a rule hold in the log."""
    names = dict.fromkeys(condition.signal for condition in parse_rule(rule).conditions)
    buckets = parse_buckets(labels.skip)
    found: dict[str, Counter[Any]] = {name: Counter() for name in names}

    def count(events: pa.Table) -> dict[str, tuple[str, Any]]:
        signals = Signals(events, items, buckets)
        return {name: _summary(signals, events, name) for name in names}

    kinds: dict[str, str] = {}
    for part in parts.map(count):
        for name, (kind, counts) in part.items():
            kinds[name] = kind
            found[name].update(counts)
    return ", ".join(f"{name} {_told(kinds[name], found[name])}" for name in names)


def _summary(signals: Signals, events: pa.Table, name: str) -> tuple[str, dict[Any, int]]:
    kind = signals.kind(name)
    if kind == "text":
        pairs = pc.value_counts(pc.drop_null(flat(events[name])))
        return kind, {pair["values"].as_py(): pair["counts"].as_py() for pair in pairs}
    known = signals[name][~np.isnan(signals[name])]
    if kind == "bit":
        yes = int(np.sum(known == 1))
        return kind, {"yes": yes, "no": len(known) - yes}
    return kind, dict.fromkeys([known.min(), known.max()] if len(known) else [], 1)


def _told(kind: str, counts: Counter[Any]) -> str:
    if not sum(counts.values()):
        return "is unknown everywhere"
    if kind == "bit":
        return f"is yes {counts['yes']:,} and no {counts['no']:,} times"
    if kind == "number":
        return f"lies from {min(counts):g} to {max(counts):g}"
    return f"is {_listed(repr(value) for value, _ in counts.most_common(SHOWN))}" + (
        f" and {len(counts) - SHOWN:,} more" if len(counts) > SHOWN else ""
    )


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)
