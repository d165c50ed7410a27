"""Writes the recommended items for every user of an event log.

  python -m launch.recommend --workdir=runs/mine --events=my_events.csv --k=10 \
    --out=recommendations.csv

Histories come from --events only; the data set of the run is not read.
"""

from __future__ import annotations

import pyarrow as pa
from absl import flags

from negflax.data import read_events, require_suffix, write_table
from negflax.evaluate import format_table
from negflax.files import write_json
from negflax.serve import TrainedRecommender

from . import flags as shared

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "best", "Which checkpoint: latest, best or a step number."
)
EVENTS = flags.DEFINE_string("events", None, "Event log: a .csv or .parquet file or a folder.")
K = flags.DEFINE_integer("k", 10, "Length of the lists.")
OUT = flags.DEFINE_string(
    "out", "recommendations.csv", "File to write the lists to: .csv or .parquet."
)
EXCLUDE_SEEN = flags.DEFINE_boolean("exclude_seen", True, "Leave out items of the user's history.")

SHOWN_USERS, SHOWN_RANKS = 3, 3


def sample(lists: pa.Table) -> str:
    """Returns the top items of the first few users, as text."""
    rows = lists.slice(0, SHOWN_USERS * K.value).to_pylist()
    users = list(dict.fromkeys(row["user_id"] for row in rows))[:SHOWN_USERS]
    shown = [row for row in rows if row["user_id"] in users and row["rank"] <= SHOWN_RANKS]
    return format_table([{k: _plain(k, v) for k, v in row.items()} for row in shown])


def _plain(column: str, value: object) -> object:
    return str(value) if column.endswith("_id") else value  # no thousands separators in ids


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    require_suffix(OUT.value)  # checked before the work, not after it
    shared.start(WORKDIR.value)
    recommender = TrainedRecommender.load(WORKDIR.value, CHECKPOINT.value)
    events, _ = read_events(EVENTS.value, columns=recommender.trained.config.data.columns)
    lists, report = recommender.recommend(
        events, K.value, exclude_seen=EXCLUDE_SEEN.value, name=EVENTS.value
    )
    write_table(lists, OUT.value)
    print(sample(lists))
    print(
        f"wrote {report['users']:,} lists to {OUT.value}; "
        f"{report['events_on_unknown_items']:,} of "
        f"{report['events'] + report['events_on_unknown_items']:,} events are on items that the "
        f"run does not know, {report['users_without_history']:,} users have no history left, "
        f"{report['short_lists']:,} lists have fewer than {K.value} items"
    )
    if shared.JSON.value:
        write_json(shared.JSON.value, {"step": recommender.trained.step, "k": K.value} | report)


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir", "events"])
    shared.run(main)
