"""Recommends: an event log in, the best items for each of its users out.

  python -m launch.recommend --workdir=runs/mine --events=my_events.csv --k=10 \
    --out=recommendations.csv

Histories come from --events alone; the run's own data set is not read.
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
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "latest, best or a step.")
EVENTS = flags.DEFINE_string("events", None, "Event log: a .csv or .parquet file or a folder.")
K = flags.DEFINE_integer("k", 10, "Length of the lists.")
OUT = flags.DEFINE_string("out", "recommendations.csv", "Where the lists go: .csv or .parquet.")
EXCLUDE_SEEN = flags.DEFINE_boolean("exclude_seen", True, "Leave out what the user has had.")

SHOWN_USERS, SHOWN_RANKS = 3, 3


def sample(lists: pa.Table) -> str:
    """The top of the first users' lists as text."""
    rows = lists.slice(0, SHOWN_USERS * K.value).to_pylist()
    users = list(dict.fromkeys(row["user_id"] for row in rows))[:SHOWN_USERS]
    shown = [row for row in rows if row["user_id"] in users and row["rank"] <= SHOWN_RANKS]
    return format_table([{k: _plain(k, v) for k, v in row.items()} for row in shown])


def _plain(column: str, value: object) -> object:
    return str(value) if column.endswith("_id") else value  # no thousands marks in ids


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    require_suffix(OUT.value)  # not after the work is done
    shared.start(WORKDIR.value)
    recommender = TrainedRecommender.load(WORKDIR.value, CHECKPOINT.value)
    events, _ = read_events(EVENTS.value, columns=recommender.trained.config.data.columns)
    lists, report = recommender.recommend(
        events, K.value, exclude_seen=EXCLUDE_SEEN.value, name=EVENTS.value
    )
    write_table(lists, OUT.value)
    print(sample(lists))
    print(
        f"{report['users']:,} lists: {OUT.value}. {report['events_on_unknown_items']:,} of "
        f"{report['events'] + report['events_on_unknown_items']:,} events were on items unknown to "
        f"the run; {report['users_without_history']:,} users were left without a history, "
        f"{report['short_lists']:,} lists are shorter than {K.value}"
    )
    if shared.JSON.value:
        write_json(shared.JSON.value, {"step": recommender.trained.step, "k": K.value} | report)


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir", "events"])
    shared.run(main)
