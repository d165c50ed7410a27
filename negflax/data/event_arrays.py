"""Validated events → the columns of Sequences: splits, vocabulary, labels and features, by parts.

Shapes: E events of a part, U users of a part, I items.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from negflax.config import Config, DataConfig, LabelConfig
from negflax.data import features
from negflax.data.catalogue import Catalogue, build_catalogue, describing, spread
from negflax.data.columns import (
    as_text,
    factorize,
    floats,
    integers,
    is_text,
    runs,
    whole_numbers,
)
from negflax.data.data_report import (
    item_table_report,
    require_every_split,
    split_counts,
    split_report,
    time_report,
)
from negflax.data.item_ids import like_events
from negflax.data.labelling import dislikes, match, weights_of
from negflax.data.parts import Parts
from negflax.data.rule_matches import match_report
from negflax.data.schema import validate_items
from negflax.data.splits import (
    effective_times,
    leave_one_out,
    nondecreasing,
    split_by_column,
    split_by_time,
    split_moments,
    user_fraction,
)
from negflax.data.times import EARLY_MS
from negflax.data.vocabulary_growth import grow


class ValidLog(NamedTuple):
    """A log whose events were validated.

    Attributes:
      name: of the source, for messages.
      parts: validated events; each part holds whole users.
      items: item table, not validated.
      repairs: counts so far.
    """

    name: str
    parts: Parts
    items: pa.Table | None
    repairs: dict[str, int]


def prepare(
    log: ValidLog,
    config: Config,
    catalogue: Catalogue | None,
    write: Callable[[dict[str, np.ndarray]], None],
    known: Catalogue | None = None,
) -> dict[str, Any]:
    """Labels, splits and encodes validated events part by part, in memory for a few parts.

    Three passes: the moments of the split, the vocabulary, the columns. Each is a function of one
    part, and a merge.

    Args:
      log: events and items.
      config: its sections data and labels.
      catalogue: as `build_sequences`.
      write: takes the columns of Sequences that end in _E, once for each part, in order.
      known: as `open_sequences`.

    Returns:
      The other fields of Sequences.
    """
    name, parts, items, repairs = log
    published = config.data.split == "leave_one_out"
    if items is not None:
        items = like_events(validate_items(items, f"{name} items"), parts)
        if is_text(items.schema.field("item_id").type):
            parts = parts.then(lambda events: as_text(events, "item_id"))
    moments: dict[str, int] = {}
    if config.data.split == "temporal":
        moments = split_moments(
            lambda: parts.map(lambda events: effective_times(events, runs(events["user_id"])[0])),
            config.data,
            name,
        )

    def split(events: pa.Table, user_E: np.ndarray) -> tuple[np.ndarray, int]:
        """(split_E, how many events moved)."""
        # Published leave-one-out protocols filter items by their count over the whole log and split
        # what is left; here that is all events in the training period until the filter is through.
        if published:
            return np.zeros(len(user_E), np.uint8), 0
        if config.data.split == "column":
            return nondecreasing(split_by_column(events, name), user_E)
        if config.data.split == "user_fraction":
            return user_fraction(user_E, config.data), 0
        return nondecreasing(split_by_time(effective_times(events, user_E), moments), user_E)

    is_new = catalogue is None
    if catalogue is None:
        catalogue = _vocabulary(parts, split, items, config.data)
        if known is not None:
            catalogue = grow(known, catalogue, config.data.reserved_items)

    accumulator: Counter[tuple[str, ...]] = Counter()
    user_ids, lengths, newest, count_V = [], [], [], np.zeros(catalogue.num_rows, np.int64)
    for part in parts.map(lambda events: _encode(events, items, split, catalogue, config)):
        write(part.columns)
        accumulator.update(part.accumulator)
        user_ids.append(part.user_ids)
        lengths.append(part.length_U)
        newest.append(int(part.columns["time_E"].max(initial=-1)))
        split_E = part.columns["split_E"]
        count_V += np.bincount(part.columns["item_E"][split_E == 0], minlength=catalogue.num_rows)
    count_V[0] = 0  # events in buckets
    length_U = np.concatenate(lengths)
    report = split_report(accumulator) | match_report(accumulator, log, items, config.labels)
    if items is not None:
        report["item_table"] = item_table_report(name, catalogue, items)
    report |= time_report(name, max(newest, default=-1), accumulator["early",])
    require_every_split(report["splits"], config, name)
    return {
        "catalogue": dataclasses.replace(catalogue, train_count_V=count_V) if is_new else catalogue,
        "user_ids": np.concatenate(user_ids),
        "offsets_U1": np.append(0, np.cumsum(length_U)),
        "report": {
            "source": name,
            "users": len(length_U),
            "items": len(catalogue.item_ids),
            "events": int(length_U.sum()),
            **report,
            "tied_events": accumulator["tied",],
            "repairs": repairs | {"events_moved_to_a_later_split": accumulator["moved",]},
            **moments,
        },
    }


_Split = Callable[[pa.Table, np.ndarray], tuple[np.ndarray, int]]


def _vocabulary(
    parts: Parts, split: _Split, items: pa.Table | None, config: DataConfig
) -> Catalogue:
    """The items with enough events in the training period."""

    def count(events: pa.Table) -> tuple[np.ndarray, np.ndarray, pa.Table]:
        split_E, _ = split(events, runs(events["user_id"])[0])
        code_E, item_ids = factorize(events["item_id"])
        count_I = np.bincount(code_E[split_E == 0], minlength=len(item_ids))
        return item_ids, count_I, describing(events)

    parts_of = parts.map(count)
    item_ids, count_I, described = next(parts_of)
    for more_ids, more_I, more in parts_of:
        both = np.concatenate([item_ids, more_ids])
        item_ids, place = np.unique(both, return_inverse=True)
        total_I = np.zeros(len(item_ids), np.int64)
        np.add.at(total_I, place, np.concatenate([count_I, more_I]))
        count_I = total_I
        described = describing(pa.concat_tables([described, more]))
    known_I = count_I >= config.min_item_events
    item_ids, count_I = item_ids[known_I], count_I[known_I]
    if is_text(pa.array(item_ids).type) and whole_numbers(pa.array(item_ids)):
        # What is text in the log lies outside the vocabulary, and makes no other rows of it.
        numbers = item_ids.astype(np.int64)
        order = np.argsort(numbers)
        item_ids, count_I = numbers[order], count_I[order]
    catalogue = build_catalogue(item_ids, described, items)
    catalogue = dataclasses.replace(
        catalogue, reserved_rows=config.reserved_items, bucket_rows=config.hash_buckets
    )
    return catalogue.reordered(spread(count_I)) if config.spread_rows else catalogue


@dataclasses.dataclass(frozen=True)
class _Encoded:
    """One part's columns, users and counts."""

    columns: dict[str, np.ndarray]
    user_ids: np.ndarray
    length_U: np.ndarray
    accumulator: dict[tuple[str, ...], int]


def _encode(
    events: pa.Table,
    items: pa.Table | None,
    split: _Split,
    catalogue: Catalogue,
    config: Config,
) -> _Encoded:
    user_E, user_ids = runs(events["user_id"])
    matches = match(events, config.labels, items)
    positive_E, negative_E = weights_of(matches, events, config.labels)
    split_E, moved = split(events, user_E)
    code_E, item_ids = factorize(events["item_id"])
    item_E = catalogue.rows(item_ids)[code_E]
    keep = item_E > 0
    accumulator = {("rule", *rule): num for rule, num in matches.counts.items()}
    accumulator |= split_counts(
        "unknown_items", split_E[~keep], positive_E[~keep], negative_E[~keep]
    )
    bucket = {}
    if catalogue.bucket_rows:
        bucket["bucket_E"] = np.where(keep, 0, catalogue.buckets(item_ids)[code_E])
        positive_E, negative_E = np.where(keep, positive_E, 0), np.where(keep, negative_E, 0)
    elif not keep.all():
        events = events.filter(pa.array(keep))
        item_E, user_E, split_E = item_E[keep], user_E[keep], split_E[keep]
        positive_E, negative_E = positive_E[keep], negative_E[keep]
    if config.data.split == "leave_one_out":
        split_E = leave_one_out(user_E)
    accumulator |= split_counts("splits", split_E, positive_E, negative_E) | {("moved",): moved}
    key_E = integers(events["pos" if "pos" in events.column_names else "timestamp_ms"], 0)
    tied_E = (np.diff(user_E) == 0) & (np.diff(key_E) == 0)  # in the order of the files
    accumulator[("tied",)] = int(np.count_nonzero(tied_E))
    length_U = np.bincount(user_E, minlength=len(user_ids))
    columns = {
        "item_E": item_E,
        "positive_weight_E": positive_E,
        "negative_weight_E": negative_E,
        "split_E": split_E,
    } | encode_features(events, item_E, user_E, catalogue, config.labels)
    columns |= bucket
    time_E = columns["time_E"]
    accumulator[("early",)] = int(np.count_nonzero((time_E >= 0) & (time_E < EARLY_MS)))
    return _Encoded(columns, user_ids[length_U > 0], length_U[length_U > 0], accumulator)


def encode_features(
    events: pa.Table,
    item_E: np.ndarray,
    user_E: np.ndarray,
    catalogue: Catalogue,
    labels: LabelConfig,
) -> dict[str, np.ndarray]:
    """The feature columns of Sequences, by field name.

    Args:
      events: validated events, in the order of their users.
      item_E: catalogue rows, 0 unknown.
      user_E: user numbers, nondecreasing.
      catalogue: gives the durations that the events lack.
      labels: say what a dislike is in a log without that column.
    """

    def column(name: str) -> np.ndarray:
        return floats(events[name]) if name in events.column_names else np.full(len(item_E), np.nan)

    duration_E = column("duration_ms")
    if catalogue.duration_V is not None:
        duration_E = np.where(np.isnan(duration_E), catalogue.duration_V[item_E], duration_E)
    timed = "timestamp_ms" in events.column_names
    time_E = integers(events["timestamp_ms"], -1) if timed else np.full(len(item_E), -1, np.int64)
    first_E = np.diff(user_E, prepend=-1) != 0
    dwell_E = column("dwell_ms")
    return {
        "dislike_E": features.bits(dislikes(events, labels)),
        "dismissal_E": features.bits(column("dismissal")),
        "dwell_E": features.dwell_codes(dwell_E),
        "watch_ratio_E": features.watch_ratio_codes(dwell_E, duration_E),
        "gap_E": features.gap_codes(time_E, first_E),
        "surface_E": features.surface_codes(column("surface")),
        "time_E": time_E,
        "random_E": features.bits(column("random_exposure")),
    }
