"""What looks wrong with a data set: leaks between periods, times, signals that say nothing.

Each finding says what was seen, and what to do about it. None of them stops a run.
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
SHORTEST_COPY = 5  # events of equal histories that are no coincidence


class Finding(NamedTuple):
    """What is wrong, where, and what to do."""

    about: str
    what: str
    remedy: str


def check_data(raw: RawData, data: Inspected, figures: dict[str, Any]) -> list[Finding]:
    """All findings.

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
    """Events of one moment, or of overlapping periods, on both sides of a boundary."""
    s, found = data.sequences, []
    if data.config.data.split == "leave_one_out":
        return [
            Finding(
                "split",
                "leave-one-out: training holds events that are later than other users' test events",
                "use it to compare with published tables only; else config.data.split='temporal'",
            )
        ]
    same_user = np.diff(data.user_E) == 0
    known = (s.time_E[1:] >= 0) & same_user
    tied = int(np.sum(known & (np.diff(s.time_E) == 0) & (np.diff(s.split_E.astype(int)) > 0)))
    if tied:
        found.append(
            Finding(
                "split",
                f"{tied:,} users have events of one and the same time on both sides of a boundary",
                "move the boundary between two times, so that what happened together stays so",
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
                    "no model has seen the future of others",
                )
            )
    return found


def foresight(raw: RawData, data: Inspected) -> list[Finding]:
    """Number columns that know more of the test period than training counts explain.

    Such as counts over the whole month: the rank correlation of the column with the events of the
    test period, given those of the training period.
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
                    f"tells the test period beyond what training tells (partial rank correlation "
                    f"{ahead:.2f}): it may be computed over the test period",
                    "compute it from the training period alone, or keep it out of rules and models",
                )
            )
    return found


def late_feedback(data: Inspected) -> list[Finding]:
    """Feedback that was given after the user's next event, or after the test period began."""
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
                    f"{late:,} events got this feedback after the user's next event, which reads "
                    "it as input",
                    "leave the signal out of config.model.features, or set it to null there",
                )
            )
        beyond = int(np.sum((s.split_E == 0) & (given_E >= test.min()))) if len(test) else 0
        if beyond:
            found.append(
                Finding(
                    f"`{name}`",
                    f"{beyond:,} training events got this feedback in the test period",
                    "set feedback to null that was given after the training period ended",
                )
            )
    return found


def times(data: Inspected, figures: dict[str, Any]) -> list[Finding]:
    """Order and units of the times."""
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
                f"{unsorted:,} events stood before an earlier one of their user; they were sorted",
                "check that the times are those of the events, not of their arrival in the log",
            )
        )
    if tied and "pos" not in data.events.column_names:
        found.append(
            Finding(
                "`timestamp_ms`",
                f"{tied:,} events ({tied / len(s.time_E):.1%}) have the time of the one before: "
                "nothing but their order in the file says which came first",
                "add a column `pos`, the order within the user, or finer times",
            )
        )
    if back:
        found.append(
            Finding(
                "`pos`",
                f"time goes backwards at {back:,} events in the order of `pos`",
                "correct `pos`, or leave it out so that time orders the events",
            )
        )
    if moved:
        found.append(
            Finding(
                "split",
                f"{moved:,} events came after a later period's event of their user and were moved "
                "into that period",
                "check the column `split` or the times",
            )
        )
    if unit := wrong_unit(int(s.time_E.max(initial=-1))):
        found.append(
            Finding(
                "`timestamp_ms`",
                f"read as milliseconds, the newest event is implausible: these look like {unit}",
                "write milliseconds since 1970, or a column of timestamps",
            )
        )
    return found


def copies(data: Inspected, figures: dict[str, Any]) -> list[Finding]:
    """The same event, or the same history, more than once."""
    s, found = data.sequences, []
    if dropped := figures["repairs"].get("duplicate_events", 0):
        found.append(
            Finding(
                "duplicates",
                f"{dropped:,} events were exact copies of another and were left out",
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
                    f"{again:,} test events have item and time of a training event",
                    "find out whether users or events were copied, and keep one of each",
                )
            )
    if count:
        found.append(
            Finding(
                "duplicates",
                f"{count:,} events repeat user, item and time of another",
                "merge the rows of one event into one, each signal in its column",
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
                f"{twins:,} users have the whole history of another ({SHORTEST_COPY}+ events)",
                "drop the copies: their test events are another user's training events",
            )
        )
    return found


def silent_signals(figures: dict[str, Any]) -> list[Finding]:
    """Signals that are null, constant, or known in one period only."""
    found = []
    for row in figures["nulls"]:
        about, train, test = f"signal `{row['signal']}`", row["null_train"], row["null_test"]
        if row["null"] == 1:
            what = "is null in every event: no rule on it matches"
            found.append(Finding(about, what, "fill the column, or leave it and its rules out"))
            continue
        if train is not None and test is not None and abs(train - test) > 0.25:
            found.append(
                Finding(
                    about,
                    f"is null in {train:.0%} of the training and {test:.0%} of the test events",
                    "labels and inputs made of it differ between the periods: start training "
                    "later, or keep to signals that both periods have",
                )
            )
        elif row["null"] > 0.9:
            what = f"is null in {row['null']:.1%} of the events"
            found.append(Finding(about, what, "if silence means no, write 0; null is unknown"))
        if row["min"] is not None and row["min"] == row["max"]:
            found.append(
                Finding(
                    about,
                    f"is {row['min']:g} wherever it is known",
                    "it tells no event from another: if silence means no, write 0, not null",
                )
            )
    return found


def thin_labels(data: Inspected, figures: dict[str, Any]) -> list[Finding]:
    """Rules that match nothing, and too few labels to judge by."""
    found = []
    for row in figures["rules"]:
        for split, name in (("train", "training"), ("test", "test")):
            if row.get(split) == 0:
                found.append(
                    Finding(
                        f"rule `{row['rule']}`",
                        f"matches no event of the {name} period",
                        "compare its threshold with the signal's range, or leave it out",
                    )
                )
    test = figures["splits"][2]
    negatives = data.config.labels.negative
    if negatives and test["users_with_negatives"] < FEW:
        found.append(
            Finding(
                "labels",
                f"{test['users_with_negatives']:,} users have a negative in the test period",
                "intervals will be wide: lengthen the period before you claim anything",
            )
        )
    unknown, kept = (figures["unknown_items"]["test"]["events"], test["events"])
    if unknown > 0.1 * (unknown + kept):
        found.append(
            Finding(
                "catalogue",
                f"{unknown / (unknown + kept):.0%} of the test events are on items that training "
                "does not know",
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
    """The value of each group, NaN where it has none; None if it varies in one, or not at all."""
    known_E = ~np.isnan(value_E)
    value_G = np.full(groups, np.nan)
    value_G[code_E[known_E]] = value_E[known_E]
    repeats = len(value_E) > groups
    same = np.array_equal(value_G[code_E[known_E]], value_E[known_E])
    return value_G if repeats and same and len(np.unique(value_E[known_E])) > 1 else None


def _partial_correlation(x: np.ndarray, y: np.ndarray, given: np.ndarray) -> float:
    """Spearman's rank correlation of x and y, given a third; 0 where it is undefined."""
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
