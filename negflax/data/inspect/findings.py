"""Warnings about a data set: leaks between periods, wrong times, signals without information.

Each finding says what was found and what to do about it. Findings do not stop a run.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from scipy import stats

from negflax.data.columns import factorize, floats, integers, is_number
from negflax.data.inspect.figures import Inspected
from negflax.data.schema import NOT_SIGNALS, NUMBERS
from negflax.data.sources import RawData
from negflax.data.times import OWN_TIME, wrong_unit

FEW = 100  # users: below, intervals of a metric are wide
FORESIGHT = 0.3  # partial rank correlation with the future above which a feature is suspect
SHORTEST_COPY = 5  # events; shorter histories may be equal by chance


class Finding(NamedTuple):
    """A problem: where it is, what it is, and what to do."""

    about: str
    what: str
    remedy: str


def check_data(raw: RawData, data: Inspected, figures: dict[str, Any]) -> list[Finding]:
    """Returns all findings.

    Args:
      raw: the source, whose item table may hold more columns than a run reads.
      data: the same, opened.
      figures: of inspect.inspect_data.
    """
    return [
        *leaks(data),
        *foresight(raw, data),
        *late_feedback(data),
        *times(data, figures),
        *copies(data, figures),
        *silent_signals(figures),
        *thin_labels(data, figures),
    ]


def leaks(data: Inspected) -> list[Finding]:
    """Finds periods that overlap, and users with simultaneous events in two periods."""
    s, found = data.sequences, []
    if data.config.data.split == "leave_one_out":
        return [
            Finding(
                "split",
                "leave-one-out: training has events that are later than other users' test events",
                "use it only to compare with published tables; otherwise set "
                "config.data.split='temporal'",
            )
        ]
    same_user = np.diff(data.user_E) == 0
    known = (s.time_E[1:] >= 0) & same_user
    tied = int(np.sum(known & (np.diff(s.time_E) == 0) & (np.diff(s.split_E.astype(int)) > 0)))
    if tied:
        found.append(
            Finding(
                "split",
                f"{tied:,} users have simultaneous events in two different periods",
                "move the boundary to a moment between two event times",
            )
        )
    timed_E = s.time_E >= 0
    for early, late, names in ((0, 1, "validation"), (0, 2, "test"), (1, 2, "test")):
        before, after = (s.time_E[timed_E & (s.split_E == code)] for code in (early, late))
        if len(before) and len(after) and before.max() >= after.min():
            share = np.mean(before >= after.min())
            found.append(
                Finding(
                    "split",
                    f"{share:.2%} of the {'training' if early == 0 else 'validation'} events are "
                    f"as late as the first {names} event or later",
                    "split all users at the same moment (config.data.split='temporal'), so that "
                    "models are not trained on the future of other users",
                )
            )
    return found


def foresight(raw: RawData, data: Inspected) -> list[Finding]:
    """Finds numeric columns that predict the test period better than training counts do.

    An example is a count over the whole month. The measure is the rank correlation of the column
    with the number of events in the test period, given the number in the training period.
    """
    s, found = data.sequences, []
    held_E = s.split_E == 2
    by_item = [
        np.bincount(s.item_E[mask], minlength=s.catalogue.num_rows)[1:]
        for mask in (s.split_E == 0, held_E)
    ]
    by_user = [
        np.bincount(data.user_E[mask], minlength=len(s.user_ids))
        for mask in (s.split_E == 0, held_E)
    ]
    columns: list[tuple[str, np.ndarray, list[np.ndarray]]] = []
    if raw.items is not None:
        rows = s.catalogue.rows(_ids(raw.items["item_id"], s.catalogue.item_ids))
        for name in _numbers(raw.items, ("item_id", "creator_id", "cluster_ids", "duration_ms")):
            value_V = np.full(s.catalogue.num_rows, np.nan)
            value_V[rows] = floats(raw.items[name])
            columns.append((f"item table, `{name}`", value_V[1:], by_item))
    for name in _numbers(data.events, (*NOT_SIGNALS, *NUMBERS)):
        value_E = floats(data.events[name])
        for code_E, counts, of in ((s.item_E - 1, by_item, "item"), (data.user_E, by_user, "user")):
            if (value_G := _constant_within(value_E, code_E, len(counts[0]))) is not None:
                columns.append((f"events, `{name}`, a feature of the {of}", value_G, counts))
    for about, value_G, (train_G, test_G) in columns:
        ahead = _partial_correlation(value_G, test_G, train_G)
        if ahead > FORESIGHT:
            found.append(
                Finding(
                    about,
                    "predicts the test period better than training counts do (partial rank "
                    f"correlation {ahead:.2f}): it may be computed over the test period",
                    "compute it from the training period only, or leave it out of rules and models",
                )
            )
    return found


def late_feedback(data: Inspected) -> list[Finding]:
    """Finds feedback that was given after the user's next event or in the test period."""
    s, found = data.sequences, []
    last_E = np.append(np.diff(data.user_E) != 0, True)
    next_E = np.where(last_E, np.iinfo(np.int64).max, np.append(s.time_E[1:], 0))
    next_E = np.where(next_E < 0, np.iinfo(np.int64).max, next_E)
    test = s.time_E[(s.split_E == 2) & (s.time_E >= 0)]
    for name in data.events.column_names:
        if not name.endswith(OWN_TIME):
            continue
        given_E = integers(data.events[name], -1)
        late = int(np.sum(given_E > next_E))
        if late:
            found.append(
                Finding(
                    f"`{name}`",
                    f"{late:,} events got this feedback after the user's next event, whose "
                    "prediction already reads it as input",
                    "leave the signal out of config.model.features, or set it to null there",
                )
            )
        beyond = int(np.sum((s.split_E == 0) & (given_E >= test.min()))) if len(test) else 0
        if beyond:
            found.append(
                Finding(
                    f"`{name}`",
                    f"{beyond:,} training events got this feedback in the test period",
                    "set feedback that was given after the training period to null",
                )
            )
    return found


def times(data: Inspected, figures: dict[str, Any]) -> list[Finding]:
    """Finds wrong orders and units of times."""
    s, found = data.sequences, []
    unsorted, moved = (
        figures["repairs"].get(key, 0)
        for key in ("unsorted_events", "events_moved_to_a_later_split")
    )
    same_user = np.diff(data.user_E) == 0
    known = same_user & (s.time_E[1:] >= 0) & (s.time_E[:-1] >= 0)
    step = np.diff(s.time_E)
    tied, back = int(np.sum(known & (step == 0))), int(np.sum(known & (step < 0)))
    if unsorted:
        found.append(
            Finding(
                "order",
                f"{unsorted:,} events came before an earlier one of their user; they were sorted",
                "check that the times are those of the events, not of their arrival in the log",
            )
        )
    if tied and "pos" not in data.events.column_names:
        found.append(
            Finding(
                "`timestamp_ms`",
                f"{tied:,} events ({tied / len(s.time_E):.1%}) have the same time as the event "
                "before them, so they are in the order of the file",
                "add a column `pos`, the order within the user, or more precise times",
            )
        )
    if back:
        found.append(
            Finding(
                "`pos`",
                f"in the order of `pos`, {back:,} events are earlier than the event before them",
                "correct `pos`, or remove it, so that events are sorted by time",
            )
        )
    if moved:
        found.append(
            Finding(
                "split",
                f"{moved:,} events came after an event of a later period of the same user and were "
                "moved into that period",
                "check the column `split` or the times",
            )
        )
    if unit := wrong_unit(int(s.time_E.max(initial=-1))):
        found.append(
            Finding(
                "`timestamp_ms`",
                f"read as milliseconds, the newest event is implausible: these look like {unit}",
                "write milliseconds since 1970, or use a column of the type timestamp",
            )
        )
    return found


def copies(data: Inspected, figures: dict[str, Any]) -> list[Finding]:
    """Finds events and histories that occur more than once."""
    s, found = data.sequences, []
    if dropped := figures["repairs"].get("duplicate_events", 0):
        found.append(
            Finding(
                "duplicates",
                f"{dropped:,} events were exact copies of other events and were left out",
                "check how the files were joined",
            )
        )
    timed = np.flatnonzero(s.time_E >= 0)
    keys = np.stack([s.item_E[timed], s.time_E[timed]], 1).astype(np.int64)
    moment, count = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1), 0
    if len(timed):
        pair = moment * np.int64(len(s.user_ids)) + data.user_E[timed]
        count = len(pair) - len(np.unique(pair))
        train = np.unique(moment[s.split_E[timed] == 0])
        again = int(np.isin(moment[s.split_E[timed] == 2], train).sum())
        if again:
            found.append(
                Finding(
                    "duplicates",
                    f"{again:,} test events have the item and the time of a training event",
                    "find out whether users or events were copied, and keep one copy",
                )
            )
    if count:
        found.append(
            Finding(
                "duplicates",
                f"{count:,} events have the user, the item and the time of another event",
                "merge them into one row, with each signal in its column",
            )
        )
    rng = np.random.default_rng(0)
    item_code_V = rng.integers(1, 2**62, s.catalogue.num_rows, dtype=np.uint64)
    length_U = np.diff(s.offsets_U1)
    place_E = np.arange(len(s.item_E)) - np.repeat(s.offsets_U1[:-1], length_U)
    place_code = rng.integers(1, 2**62, int(length_U.max(initial=1)), dtype=np.uint64) | np.uint64(
        1
    )
    hash_U = np.add.reduceat(item_code_V[s.item_E] * place_code[place_E], s.offsets_U1[:-1])
    hash_U = hash_U[length_U >= SHORTEST_COPY]
    twins = len(hash_U) - len(np.unique(hash_U))
    if twins:
        found.append(
            Finding(
                "duplicates",
                f"{twins:,} users have the same history as another user ({SHORTEST_COPY}+ events)",
                "remove the copies: they can put test events of one user into the training of "
                "another",
            )
        )
    return found


def silent_signals(figures: dict[str, Any]) -> list[Finding]:
    """Finds signals that are null, constant, or known in only one period."""
    found = []
    for row in figures["nulls"]:
        about, train, test = f"signal `{row['signal']}`", row["null_train"], row["null_test"]
        if row["null"] == 1:
            what = "is null in every event, so rules on it match nothing"
            found.append(Finding(about, what, "fill the column, or remove it and its rules"))
            continue
        if train is not None and test is not None and abs(train - test) > 0.25:
            found.append(
                Finding(
                    about,
                    f"is null in {train:.0%} of the training and {test:.0%} of the test events",
                    "labels and inputs computed from it differ between the periods: start training "
                    "later, or use only signals that both periods have",
                )
            )
        elif row["null"] > 0.9:
            what = f"is null in {row['null']:.1%} of the events"
            remedy = "if a missing value means no, write 0; null means unknown"
            found.append(Finding(about, what, remedy))
        if row["min"] is not None and row["min"] == row["max"]:
            found.append(
                Finding(
                    about,
                    f"is {row['min']:g} in every event where it is known",
                    "it cannot distinguish events: if a missing value means no, write 0, not null",
                )
            )
    return found


def thin_labels(data: Inspected, figures: dict[str, Any]) -> list[Finding]:
    """Finds rules that match nothing, and labels too few for an evaluation."""
    found = []
    for row in figures["rules"]:
        for split, name in (("train", "training"), ("test", "test")):
            if row.get(split) == 0:
                found.append(
                    Finding(
                        f"rule `{row['rule']}`",
                        f"matches no event of the {name} period",
                        "compare its threshold with the signal's range, or remove the rule",
                    )
                )
    test = figures["splits"][2]
    negatives = data.config.labels.negative
    if negatives and test["users_with_negatives"] < FEW:
        found.append(
            Finding(
                "labels",
                f"only {test['users_with_negatives']:,} users have a negative in the test period",
                "confidence intervals will be wide: use a longer test period",
            )
        )
    unknown, kept = (figures["unknown_items"]["test"]["events"], test["events"])
    if unknown > 0.1 * (unknown + kept):
        found.append(
            Finding(
                "catalogue",
                f"{unknown / (unknown + kept):.0%} of the test events are on items that are not in "
                "the catalogue",
                "lower config.data.min_item_events, or train up to a later moment",
            )
        )
    return found


def _ids(column: pa.ChunkedArray, like: np.ndarray) -> np.ndarray:
    code_E, ids = factorize(column)
    return (ids if (ids.dtype.kind in "iu") == (like.dtype.kind in "iu") else ids.astype(str))[
        code_E
    ]


def _numbers(table: pa.Table, without: tuple[str, ...]) -> list[str]:
    return [
        field.name
        for field in table.schema
        if is_number(field.type) and field.name not in without and not field.name.endswith(OWN_TIME)
    ]


def _constant_within(value_E: np.ndarray, code_E: np.ndarray, groups: int) -> np.ndarray | None:
    """Returns each group's value, or NaN; None if it varies within a group, or is constant."""
    known_E = ~np.isnan(value_E)
    value_G = np.full(groups, np.nan)
    value_G[code_E[known_E]] = value_E[known_E]
    repeats = len(value_E) > groups
    same = np.array_equal(value_G[code_E[known_E]], value_E[known_E])
    return value_G if repeats and same and len(np.unique(value_E[known_E])) > 1 else None


def _partial_correlation(x: np.ndarray, y: np.ndarray, given: np.ndarray) -> float:
    """Returns the absolute Spearman correlation of x and y given a third; 0 if undefined."""
    known = ~np.isnan(x)
    if known.sum() < FEW:
        return 0.0
    ranks = [stats.rankdata(values[known]) for values in (x, y, given)]
    if any(np.ptp(values) == 0 for values in ranks[:2]):
        return 0.0
    if np.ptp(ranks[2]) == 0:
        return abs(float(np.corrcoef(ranks[0], ranks[1])[0, 1]))
    (_, xy, xz), (_, _, yz), _ = np.corrcoef(ranks)
    rest = (1 - xz**2) * (1 - yz**2)
    return abs(float((xy - xz * yz) / np.sqrt(rest))) if rest > 1e-9 else 0.0
