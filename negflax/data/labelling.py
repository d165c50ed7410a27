"""Feedback → labels: which event is a positive (weight r), a negative (weight w) or neither.

rules.py has the language of the rules, signals.py what they ask. Where rules of both signs match
one event (docs/method.md §5.7), an explicit negative beats a positive; else the later one wins,
by the columns `<signal>_at_ms`; and where the log does not tell which came later, the positive.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from negflax.config import ConfigError, LabelConfig
from negflax.data.cells import DataError
from negflax.data.columns import floats
from negflax.data.rules import Rule, parse_buckets, parse_rule
from negflax.data.signals import Signals
from negflax.data.times import OWN_TIME

# Signals of what was played, and those that are features or labels of their own: no stated dislike.
UNSTATED = (
    *("skip", "long_view", "dismissal"),
    *("dwell_ms", "dwell_s", "duration_ms", "duration_s", "watch_ratio"),
)


class Matches(NamedTuple):
    """What the rules say of E events, before conflicts are resolved.

    Attributes:
      positive_E: float32, the largest weight of the positive rules that match, 0 where none does.
      negative_E: float32, the same of the negative rules.
      explicit_E: bool, an explicit negative rule matches.
      later_E: bool, the newest negative feedback is known to be later than the newest positive.
      counts: (sign, text of a rule) → events that it matches; rules of weight 0 are not there.
    """

    positive_E: np.ndarray
    negative_E: np.ndarray
    explicit_E: np.ndarray
    later_E: np.ndarray
    counts: dict[tuple[str, str], int]


def label_weights(
    events: pa.Table, labels: LabelConfig, items: pa.Table | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the events as labels; of several matching rules the largest weight counts.

    Args:
      events: a validated event log of E rows.
      labels: the rules; one of weight 0 is off, as if it were not there.
      items: the validated item table, for the durations that the events lack.

    Returns:
      (positive_weight_E, negative_weight_E) float32 ≥ 0, never both above 0.

    Raises:
      ConfigError: a bad rule or a signal that the log lacks; the message lists those it has.
      DataError: a propensity is asked for, and a labelled event has none or one above 1.
    """
    return weights_of(match(events, labels, items), events, labels)


def weights_of(
    matches: Matches, events: pa.Table, labels: LabelConfig
) -> tuple[np.ndarray, np.ndarray]:
    """`label_weights` from what the rules match."""
    positive_E, negative_E = resolve(matches)
    if labels.propensity_cap:
        scale_E = _inverse_propensity(events, labels.propensity_cap, positive_E + negative_E > 0)
        positive_E, negative_E = positive_E * scale_E, negative_E * scale_E
    return positive_E, negative_E


def match(events: pa.Table, labels: LabelConfig, items: pa.Table | None = None) -> Matches:
    """Applies the rules, each by itself; see `label_weights`."""
    signals = Signals(events, items, parse_buckets(labels.skip))
    positive = {text: parse_rule(text) for text in labels.positive}
    negative = {text: parse_rule(text) for text in labels.negative}
    explicit = {text: rule for text, rule in negative.items() if rule.signal in labels.explicit}
    positive_E, positive_time_E, liked = _newest(events, signals, positive)
    negative_E, negative_time_E, disliked = _newest(events, signals, negative)
    explicit_E = _newest(events, signals, explicit)[0] > 0
    later_E = np.isfinite(positive_time_E) & (negative_time_E > positive_time_E)
    counts = {("positive", text): num for text, num in liked.items()}
    counts |= {("negative", text): num for text, num in disliked.items()}
    return Matches(positive_E, negative_E, explicit_E, later_E, counts)


def resolve(matches: Matches) -> tuple[np.ndarray, np.ndarray]:
    """(positive_weight_E, negative_weight_E), of which at most one is above 0."""
    positive_E, negative_E, explicit_E, later_E, _ = matches
    negative_wins_E = (negative_E > 0) & ((positive_E == 0) | explicit_E | later_E)
    zero = np.float32(0)
    return np.where(negative_wins_E, zero, positive_E), np.where(negative_wins_E, negative_E, zero)


def dislikes(events: pa.Table, labels: LabelConfig) -> np.ndarray:
    """What the feature `dislike` says of the events: 1 yes, 0 no, NaN unknown; float64 (E,).

    The log's own column. Where it has none, whether a negative rule on a stated opinion matches,
    such as `rating <= 2`, `returned` or `reason == spam`: rules on `UNSTATED` signals do not count.

    Args:
      events: a validated event log; to serve from, it may lack what the rules ask for.
      labels: the rules.
    """
    if "dislike" in events.column_names:
        return floats(events["dislike"])
    signals = Signals(events)
    disliked_E, known_E = np.zeros(events.num_rows, bool), np.ones(events.num_rows, bool)
    stated = 0
    for rule in map(parse_rule, labels.negative):
        names = [condition.signal for condition in rule.conditions]
        if not rule.weight or any(n in UNSTATED or n not in signals for n in names):
            continue
        stated += 1
        disliked_E |= signals.all_hold(rule.conditions)
        known_E &= np.logical_and.reduce([signals.known(name) for name in names])
    return np.where(disliked_E | (known_E & (stated > 0)), disliked_E, np.nan)


def _newest(
    events: pa.Table, signals: Signals, rules: dict[str, Rule]
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """(largest weight, newest feedback in ms or −inf) of the rules that match; matches by rule."""
    weight_E = np.zeros(events.num_rows, np.float32)
    time_E = np.full(events.num_rows, -np.inf)
    counts = {}
    for text, rule in rules.items():
        if rule.weight > 0:
            match_E = signals.all_hold(rule.conditions)
            counts[text] = int(np.count_nonzero(match_E))
            np.maximum(weight_E, rule.weight, out=weight_E, where=match_E)
            np.maximum(time_E, _given_at(events, rule.signal), out=time_E, where=match_E)
    return weight_E, time_E, counts


def _given_at(events: pa.Table, signal: str) -> np.ndarray | float:
    """When feedback was given, in ms: its own time, else its event's, else −inf."""
    names = events.column_names
    known = [floats(events[name]) for name in (signal + OWN_TIME, "timestamp_ms") if name in names]
    if signal + OWN_TIME not in names:
        return np.nan_to_num(known[0], nan=-np.inf) if known else -np.inf
    own_E, event_E = known[0], known[-1]
    return np.nan_to_num(np.where(np.isnan(own_E), event_E, own_E), nan=-np.inf)


def _inverse_propensity(events: pa.Table, cap: float, labelled_E: np.ndarray) -> np.ndarray:
    """1 / max(propensity, 1 / cap), float32 (E,): inverse propensity weights, clipped at the cap.

    The propensity is the probability with which the logging system showed the item (Horvitz and
    Thompson 1952; clipped: Ionides 2008).
    """
    if "propensity" not in events.column_names:
        raise ConfigError(
            f"config.labels.propensity_cap = {cap:g}, and the log has no column `propensity`: add "
            "the probability with which each item was shown, or set the cap to 0"
        )
    propensity_E = floats(events["propensity"])
    bad_E = labelled_E & ~(propensity_E <= 1)
    if bad_E.any():
        row = int(np.argmax(bad_E))
        user, item = events["user_id"][row], events["item_id"][row]
        raise DataError(
            f"column `propensity`, user {user}, item {item}: {events['propensity'][row]} is not a "
            f"probability ({int(bad_E.sum())} labelled events in all); write a number from 0 to 1 "
            "for every labelled event, or set config.labels.propensity_cap = 0"
        )
    scale_E = 1 / np.maximum(np.nan_to_num(propensity_E, nan=1.0), 1 / cap)
    return scale_E.astype(np.float32)
