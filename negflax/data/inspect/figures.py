"""What a data set looks like under a config: sizes, label mix, dwell, nulls; and what looks wrong.

`inspect_data` counts over the events that a run would see (known items only), E of them, in the
order of `Sequences`; findings.py judges.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import math
from typing import Any

import numpy as np
import pyarrow as pa

from negflax.config import Config
from negflax.data import features
from negflax.data.columns import as_text, factorize, is_text
from negflax.data.item_ids import like_events
from negflax.data.labelling import match, resolve
from negflax.data.parts import Parts
from negflax.data.rules import asked, parse_buckets, parse_rule
from negflax.data.schema import SPLITS, validate, validate_items
from negflax.data.sequences import Sequences, build_sequences
from negflax.data.signals import Signals
from negflax.data.sources import RawData

DURATION_EDGES_S = (0.0, 7.0, 18.0, 60.0, 180.0, math.inf)  # where config.labels.skip has none
KINDS = ("positive", "negative", "none")


@dataclasses.dataclass(frozen=True, eq=False)
class Inspected:
    """A data set, opened for a look.

    Attributes:
      config: its sections data and labels were used.
      sequences: what a run reads.
      events: validated log, row for row the events of `sequences`.
      items: validated item table or None.
      signals: what the rules ask of the events.
      user_E: user numbers.
    """

    config: Config
    sequences: Sequences
    events: pa.Table
    items: pa.Table | None
    signals: Signals
    user_E: np.ndarray

    @property
    def label_E(self) -> np.ndarray:
        """Index into KINDS of each event."""
        s = self.sequences
        return np.where(s.positive_weight_E > 0, 0, np.where(s.negative_weight_E > 0, 1, 2))


def open_inspected(raw: RawData, config: Config) -> Inspected:
    """Reads, labels and splits a data set as a run does.

    Raises:
      DataError, ConfigError: as `build_sequences`.
    """
    data = dataclasses.replace(config.data, hash_buckets=0)  # known items, one row each
    sequences = build_sequences(raw, dataclasses.replace(config, data=data))
    events, _ = validate(raw.events, raw.name, asked(config.labels))
    items = None if raw.items is None else validate_items(raw.items, f"{raw.name} items")
    if items is not None:
        items = like_events(items, Parts([lambda: events]))
        if is_text(items.schema.field("item_id").type):
            events = as_text(events, "item_id")
    code_E, item_ids = factorize(events["item_id"])
    events = events.filter(pa.array(sequences.catalogue.rows(item_ids)[code_E] > 0))
    signals = Signals(events, items, parse_buckets(config.labels.skip))
    length_U = np.diff(sequences.offsets_U1)
    user_E = np.repeat(np.arange(len(length_U)), length_U)
    return Inspected(config, sequences, events, items, signals, user_E)


def inspect_data(data: Inspected) -> dict[str, Any]:
    """The figures, ready for JSON: sizes, splits, rules, conflicts, dwell, watch_ratio, nulls."""
    report = data.sequences.report
    return {
        **{key: report[key] for key in ("source", "users", "items", "events")},
        "repairs": report["repairs"],
        "unknown_items": report["unknown_items"],
        "density": density(data),
        "splits": splits(data),
        "rules": rules(data),
        "conflicts": conflicts(data),
        "nulls": nulls(data),
        "dwell": dwell_histogram(data),
        "watch_ratio": watch_ratios(data),
    }


def density(data: Inspected) -> dict[str, float | None]:
    """How full the log is: events by user and item, and negatives for each positive."""
    s = data.sequences
    train_I = s.catalogue.train_count_V[1:]
    positives, negatives = np.bincount(data.label_E, minlength=3)[:2].tolist()
    quantiles = {
        "events_per_user": np.diff(s.offsets_U1),
        "training_events_per_item": train_I[train_I > 0],
    }
    found: dict[str, float | None] = {
        "share_of_user_item_pairs": len(s.item_E) / (len(s.user_ids) * len(s.catalogue.item_ids)),
        "negatives_per_positive": negatives / positives if positives else None,
    }
    for name, values in quantiles.items():
        for share in (0.1, 0.5, 0.9, 1.0):
            label = {0.5: "median", 1.0: "max"}.get(share, f"p{share * 100:.0f}")
            found[f"{name}_{label}"] = float(np.quantile(values, share)) if len(values) else None
    return found


def splits(data: Inspected) -> list[dict[str, Any]]:
    """A row for each period: events, users, label mix, first and last moment (UTC)."""
    s, rows = data.sequences, []
    for code, name in enumerate(SPLITS):
        inside_E = s.split_E == code
        time = s.time_E[inside_E & (s.time_E >= 0)]
        count = np.bincount(data.label_E[inside_E], minlength=3).tolist()
        rows.append(
            {
                "split": name,
                "events": int(inside_E.sum()),
                "users": len(np.unique(data.user_E[inside_E])),
                "users_with_negatives": len(np.unique(data.user_E[inside_E & (data.label_E == 1)])),
                **dict(zip(("positives", "negatives", "unlabelled"), count, strict=True)),
                "first": _moment(time.min()) if len(time) else None,
                "last": _moment(time.max()) if len(time) else None,
            }
        )
    return rows


def rules(data: Inspected) -> list[dict[str, Any]]:
    """A row for each rule: events that it matches by itself, before conflicts are resolved."""
    rows = []
    for sign in ("positive", "negative"):
        for text in getattr(data.config.labels, sign):
            rule = parse_rule(text)
            row: dict[str, Any] = {"label": sign, "rule": text, "weight": rule.weight}
            if rule.weight > 0:
                match_E = data.signals.all_hold(rule.conditions)
                count = np.bincount(data.sequences.split_E[match_E], minlength=3)
                row |= dict(zip(SPLITS, count.tolist(), strict=True))
                row["share"] = float(match_E.mean())
            rows.append(row)
    return rows


def conflicts(data: Inspected) -> dict[str, int]:
    """Events that rules of both signs match, by what decided."""
    matches = match(data.events, data.config.labels, data.items)
    both_E = (matches.positive_E > 0) & (matches.negative_E > 0)
    _, negative_E = resolve(matches)
    return {
        "explicit_negative_won": int(np.sum(both_E & matches.explicit_E)),
        "later_negative_won": int(np.sum(both_E & ~matches.explicit_E & (negative_E > 0))),
        "positive_won": int(np.sum(both_E & (negative_E == 0))),
    }


def nulls(data: Inspected) -> list[dict[str, Any]]:
    """A row for each signal: the share of nulls, in all and by period, and the values it takes."""
    rows = []
    for name in data.signals.names():
        known_E = data.signals.known(name)
        row: dict[str, Any] = {"signal": name, "null": float(1 - known_E.mean())}
        for code, split in enumerate(SPLITS):
            inside_E = data.sequences.split_E == code
            row[f"null_{split}"] = float(1 - known_E[inside_E].mean()) if inside_E.any() else None
        row |= {"min": None, "max": None}
        if data.signals.kind(name) != "text" and known_E.any():
            values = data.signals[name][known_E]
            row |= {"min": float(values.min()), "max": float(values.max())}
        rows.append(row)
    return rows


def dwell_histogram(data: Inspected) -> list[dict[str, Any]]:
    """A row for each range of dwell times (half octaves), events by label; [] without them."""
    if "dwell_s" not in data.signals:
        return []
    edges_s = features.DWELL_EDGES_MS / 1000
    code_E = np.searchsorted(edges_s, data.signals["dwell_s"], side="right")
    known_E = data.signals.known("dwell_s")
    ranges = itertools.pairwise([0.0, *edges_s.tolist(), None])
    return [
        {"from_s": low, "to_s": high} | _label_counts(data, known_E & (code_E == code))
        for code, (low, high) in enumerate(ranges)
    ]


def watch_ratios(data: Inspected) -> list[dict[str, Any]]:
    """A row for each range of durations: quantiles of dwell / duration, and labels."""
    if "watch_ratio" not in data.signals or "duration_s" not in data.signals:
        return []
    buckets = parse_buckets(data.config.labels.skip)
    ranges = [(bucket.low_s, bucket.high_s) for bucket in buckets]
    rows = []
    for low, high in ranges or itertools.pairwise(DURATION_EDGES_S):
        duration_E = data.signals["duration_s"]
        inside_E = (duration_E >= low) & (duration_E < high) & data.signals.known("watch_ratio")
        ratios = data.signals["watch_ratio"][inside_E]
        row: dict[str, Any] = {"from_s": low, "to_s": None if math.isinf(high) else high}
        for share in (0.1, 0.25, 0.5, 0.75, 0.9):
            row[f"p{share * 100:.0f}"] = float(np.quantile(ratios, share)) if len(ratios) else None
        rows.append(row | _label_counts(data, inside_E))
    return rows


def _label_counts(data: Inspected, inside_E: np.ndarray) -> dict[str, int]:
    count = np.bincount(data.label_E[inside_E], minlength=len(KINDS))
    return dict(zip(KINDS, count.tolist(), strict=True))


def _moment(ms: int) -> str:
    try:
        moment = datetime.datetime.fromtimestamp(int(ms) / 1000, datetime.UTC)
    except (OverflowError, ValueError, OSError):
        return f"{int(ms)} ms"
    return moment.strftime("%Y-%m-%d %H:%M")
