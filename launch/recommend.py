"""Writes the recommended items for every user of an event log.

  python -m launch.recommend --workdir=runs/mine --events=my_events.csv --k=10 \
    --out=recommendations.csv

Histories come from --events only; the data set of the run is not read.
"""

from __future__ import annotations

import time

import pyarrow as pa
from absl import flags, logging

import negflax
from negflax.data import require_suffix, write_table
from negflax.evaluate import format_table
from negflax.files import write_json
from negflax.processes import from_first

from . import flags as shared

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "best", "Which checkpoint: latest, best or a step number."
)
EVENTS = flags.DEFINE_string("events", None, "Event log: a .csv or .parquet file or a folder.")
K = flags.DEFINE_integer("k", 10, "Length of the lists.")
AT = flags.DEFINE_string(
    "at", "", "Time of the request in ISO 8601, for runs with config.model.request."
)
OUT = flags.DEFINE_string(
    "out", "recommendations.csv", "File to write the lists to: .csv or .parquet."
)
EXCLUDE_SEEN = flags.DEFINE_boolean("exclude_seen", True, "Leave out items of the user's history.")
EXPLAIN = flags.DEFINE_boolean(
    "explain", False, "Add the probability of each item, and what was left out with the reason."
)
DROP_DISLIKED = flags.DEFINE_boolean("drop_disliked", False, "Leave out disliked items.")
BLOCK_CREATORS = flags.DEFINE_boolean(
    "block_creators", False, "Leave out all items of the creators of disliked items."
)
CAP_PER_CREATOR = flags.DEFINE_integer(
    "cap_per_creator", 0, "Items of one creator in a list; 0 for any number."
)
CAP_PER_CLUSTER = flags.DEFINE_integer(
    "cap_per_cluster", 0, "Items of one cluster in a list; 0 for any number."
)
AVERSION = flags.DEFINE_float(
    "aversion",
    0.0,
    "Leave out items whose cosine to a recently disliked item is at least this; 0 for off.",
)

SHOWN_USERS, SHOWN_RANKS = 3, 3
PROGRESS_EVERY = 30.0  # seconds


def sample(lists: pa.Table) -> str:
    """Returns the top items of the first few users, as text."""
    rows = lists.slice(0, SHOWN_USERS * K.value).to_pylist()
    users = list(dict.fromkeys(row["user_id"] for row in rows))[:SHOWN_USERS]
    shown = [
        row for row in rows if row["user_id"] in users and 0 < (row["rank"] or 0) <= SHOWN_RANKS
    ]
    return format_table([{k: _plain(k, v) for k, v in row.items()} for row in shown])


def _plain(column: str, value: object) -> object:
    return str(value) if column.endswith("_id") else value  # no thousands separators in ids


class Progress:
    """Logs from time to time how many users are done."""

    def __init__(self):
        self._last = time.monotonic()

    def __call__(self, done: int, users: int) -> None:
        """Called after each block of users."""
        if time.monotonic() - self._last >= PROGRESS_EVERY:
            self._last = time.monotonic()
            logging.info("%s of %s users", f"{done:,}", f"{users:,}")


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    require_suffix(OUT.value)  # checked before the work, not after it
    shared.start(WORKDIR.value)
    run = negflax.load(WORKDIR.value, CHECKPOINT.value)
    lists, report = run.recommender.recommend(
        EVENTS.value,
        K.value,
        at=AT.value or None,
        explain=EXPLAIN.value,
        progress=Progress(),
        exclude_seen=EXCLUDE_SEEN.value,
        drop_disliked=DROP_DISLIKED.value,
        block_creators=BLOCK_CREATORS.value,
        cap_per_creator=CAP_PER_CREATOR.value,
        cap_per_cluster=CAP_PER_CLUSTER.value,
        aversion=AVERSION.value,
    )
    from_first(lambda: write_table(lists, OUT.value))
    print(sample(lists))
    print(
        f"wrote {report['users']:,} lists to {OUT.value}; "
        f"{report['events_on_unknown_items']:,} of "
        f"{report['events'] + report['events_on_unknown_items']:,} events are on items that the "
        f"run does not know, {report['users_without_history']:,} users have no history left, "
        f"{report['short_lists']:,} lists have fewer than {K.value} items"
    )
    if shared.JSON.value:
        figures = {"step": run.trained.step, "k": K.value} | report
        from_first(lambda: write_json(shared.JSON.value, figures))


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir", "events"])
    shared.run(main, several=True)
