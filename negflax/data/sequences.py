"""Event log → per-user arrays, with labels, splits and vocabulary: what every later room reads."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from absl import logging

from negflax.config import Config, DataConfig, LabelConfig
from negflax.data import features
from negflax.data.catalogue import Catalogue, build_catalogue, describing, spread
from negflax.data.cells import DataError
from negflax.data.columns import (
    PLAIN_INTEGER,
    as_text,
    factorize,
    floats,
    integers,
    is_text,
    runs,
    whole_numbers,
)
from negflax.data.item_ids import like_events
from negflax.data.labelling import dislikes, match, weights_of
from negflax.data.parts import Parts
from negflax.data.rule_matches import match_report
from negflax.data.rules import asked
from negflax.data.schema import SPLITS, validate, validate_items
from negflax.data.sources import RawData
from negflax.data.splits import (
    effective_times,
    leave_one_out,
    nondecreasing,
    split_by_column,
    split_by_time,
    split_moments,
    user_fraction,
)
from negflax.data.times import EARLY_MS, wrong_unit
from negflax.data.vocabulary_growth import grow


@dataclasses.dataclass(frozen=True, eq=False)
class Sequences:
    """Events of U users, user by user in time order; user u has [offsets_U1[u], offsets_U1[u+1]).

    Attributes:
      catalogue: the items.
      user_ids: (U,) original ids, sorted.
      offsets_U1: (U+1,) int64.
      item_E: int32 catalogue rows; all ≥ 1 but for 0 where `bucket_E` has a row.
      dislike_E: uint8, 0 unknown, 1 no, 2 yes.
      dwell_E: uint8 bucket of dwell_ms, 0 unknown (features.py has the edges).
      watch_ratio_E: uint8 bucket of dwell / duration, 0 unknown.
      gap_E: uint8 bucket of the time since the user's previous event here, 0 unknown or first.
      surface_E: uint8, surface + 1, 0 unknown.
      time_E: int64 milliseconds, -1 unknown.
      positive_weight_E: float32 r ≥ 0.
      negative_weight_E: float32 w ≥ 0; r and w are never both above 0.
      split_E: uint8, 0 train, 1 valid, 2 test; nondecreasing within a user.
      report: counts of what was read, kept, repaired and dropped; plain ints, ready for JSON.
      dismissal_E: uint8, as dislike_E; None: unknown.
      random_E: uint8 whether the item was shown at random, 0 unknown, 1 no, 2 yes; None: unknown.
      bucket_E: int32 row that the encoder reads for an event on an item outside the vocabulary,
        which has no label; 0 elsewhere; None: there is no such event.
    """

    catalogue: Catalogue
    user_ids: np.ndarray
    offsets_U1: np.ndarray
    item_E: np.ndarray
    dislike_E: np.ndarray
    dwell_E: np.ndarray
    watch_ratio_E: np.ndarray
    gap_E: np.ndarray
    surface_E: np.ndarray
    time_E: np.ndarray
    positive_weight_E: np.ndarray
    negative_weight_E: np.ndarray
    split_E: np.ndarray
    report: dict[str, Any]
    dismissal_E: np.ndarray | None = None
    random_E: np.ndarray | None = None
    bucket_E: np.ndarray | None = None


def build_sequences(raw: RawData, config: Config, catalogue: Catalogue | None = None) -> Sequences:
    """Validates, labels, splits and encodes a data set (docs/method.md §4 and 5).

    The vocabulary is the items with at least data.min_item_events events in the training period;
    events on other items are counted, and dropped or, without their labels, put into
    data.hash_buckets. Only `leave_one_out` counts over the whole log, as the published tables that
    it exists for do.

    Args:
      raw: events and items.
      config: its sections data and labels.
      catalogue: a vocabulary to use instead, such as a checkpoint's.

    Raises:
      DataError: unusable events, or an empty period; validation may be empty where
        data.valid_fraction is 0, and under `leave_one_out`.
      ConfigError: a rule or moment that cannot be used.
    """
    events, repairs = validate(raw.events, raw.name, asked(config.labels))
    kept: dict[str, list[np.ndarray]] = defaultdict(list)

    def keep(columns: dict[str, np.ndarray]) -> None:
        for column, values in columns.items():
            kept[column].append(values)

    log = ValidLog(raw.name, Parts([lambda: events]), raw.items, repairs)
    rest = prepare(log, config, catalogue, keep)
    return Sequences(**{column: kept[column][0] for column in kept}, **rest)


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
    report = _report(accumulator) | match_report(accumulator, log, items, config.labels)
    if items is not None:
        row_I = catalogue.rows(factorize(items["item_id"])[1])
        described = len(np.unique(row_I[row_I > 0]))
        report["item_table"] = {"rows": items.num_rows, "items_described": described}
        if 2 * described < len(catalogue.item_ids):
            logging.warning(
                "%s: the item table has %d of %d items: check that its ids are those of the log",
                name,
                described,
                len(catalogue.item_ids),
            )
    if unit := wrong_unit(max(newest, default=-1)):
        logging.warning(
            "%s: `timestamp_ms` looks like %s, not milliseconds, and the model reads times between "
            "events: convert it to milliseconds, or use a column of the type timestamp",
            name,
            unit,
        )
        report["times_look_like"] = unit
    elif accumulator["early",]:
        report["times_before_1973"] = accumulator["early",]
        logging.warning(
            "%s: `timestamp_ms` of %d events is before 1973, that of others later: leave the field "
            "empty where the time is unknown, and use one unit for all",
            name,
            accumulator["early",],
        )
    _require_every_split(report["splits"], config, name)
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
    if is_text(pa.array(item_ids).type) and whole_numbers(pa.array(item_ids), PLAIN_INTEGER):
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
    accumulator |= _count("unknown_items", split_E[~keep], positive_E[~keep], negative_E[~keep])
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
    accumulator |= _count("splits", split_E, positive_E, negative_E) | {("moved",): moved}
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


def _count(
    group: str, split_E: np.ndarray, positive_E: np.ndarray, negative_E: np.ndarray
) -> dict[tuple[str, ...], int]:
    found = {}
    for i, split in enumerate(SPLITS):
        inside = split_E == i
        found[group, split, "events"] = int(np.count_nonzero(inside))
        found[group, split, "positives"] = int(np.count_nonzero(positive_E[inside]))
        found[group, split, "negatives"] = int(np.count_nonzero(negative_E[inside]))
    return found


def _report(accumulator: Counter[tuple[str, ...]]) -> dict[str, dict[str, dict[str, int]]]:
    return {
        group: {
            split: {
                what: accumulator[group, split, what]
                for what in ("events", "positives", "negatives")
            }
            for split in SPLITS
        }
        for group in ("splits", "unknown_items")
    }


def _require_every_split(counts: dict[str, dict[str, int]], config: Config, name: str) -> None:
    optional = config.data.split == "leave_one_out" or config.data.valid_fraction == 0
    for split in SPLITS:
        if counts[split]["events"] == 0 and not (optional and split == "valid"):
            if config.data.split == "column" and split == "valid":
                raise DataError(
                    f"{name}: column `split` has no `valid` event on a known item: mark some, "
                    "use another config.data.split, or train without validation: "
                    "config.data.valid_fraction = 0 and config.train.eval_every = 0"
                )
            raise DataError(
                f"{name}: no event on a known item is in the split `{split}` "
                f"(config.data.split = {config.data.split!r}): move config.data.valid_from and "
                "test_from or the fractions, or lower config.data.min_item_events"
            )


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
