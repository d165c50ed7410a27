"""The log of a live experiment, as columns of visits and as sequences to train on.

Shapes: N visits, E events (visits on which an item was played), U users.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from negflax.config import LabelConfig
from negflax.data import Catalogue, Sequences
from negflax.data.labelling import label_weights
from negflax.simulate.live.served_day import Visits
from negflax.world import Items

Log = dict[str, np.ndarray]
BITS = ("long_view", "like", "dislike", "dismissal", "skip")
COLUMNS = (
    "item",
    "begins",
    "start_s",
    "seen",
    "dismissals",
    "enjoyment",
    "dwell",
    "watch_ratio",
    "gap",
)


def visits_of(day: int, visits: Visits) -> Log:
    """Returns the visits of a day as columns, those of each user in order of time.

    Returns:
      `user`, `day` (int32), COLUMNS as in Visits, `dwell_ms` and BITS of the feedback; each (N,).
    """
    round_N, user_N = np.nonzero(np.asarray(visits.online))

    def take(values_KU: np.ndarray) -> np.ndarray:
        return np.asarray(values_KU)[round_N, user_N]

    log = {name: take(getattr(visits, name)) for name in COLUMNS}
    log |= {name: take(getattr(visits.feedback, f"{name}_U")) for name in (*BITS, "dwell_ms")}
    return log | {"user": user_N.astype(np.int32), "day": np.full(len(user_N), day, np.int32)}


def joined(logs: list[Log]) -> Log:
    """Concatenates logs."""
    return {name: np.concatenate([log[name] for log in logs]) for name in logs[0]}


def catalogue_of(items: Items, count_I: np.ndarray) -> Catalogue:
    """Returns a catalogue of all items of the world, played or not: item i is row i + 1."""
    rows = np.asarray(items.creator_I) + 1, np.asarray(items.cluster_I) + 1
    creator_V, cluster_V = (np.append(0, one).astype(np.int32) for one in rows)
    return Catalogue(
        item_ids=np.arange(len(count_I)),
        creator_V=creator_V,
        clusters_VC=cluster_V[:, None],
        train_count_V=np.append(0, count_I),
        duration_V=np.append(np.nan, np.asarray(items.duration_ms_I, np.float64)),
    )


def sequences_of(log: Log, users: int, catalogue: Catalogue, labels: LabelConfig) -> Sequences:
    """Returns the events of the log as training data, with the label rules of an arm.

    The feature codes of the events are those that the model read while serving.
    """
    order_E = np.flatnonzero(log["item"] >= 0)
    order_E = order_E[np.argsort(log["user"][order_E], kind="stable")]
    event = {name: column[order_E] for name, column in log.items()}
    item_E = event["item"] + 1
    columns = {name: event[name] for name in BITS} | {
        "dwell_ms": event["dwell_ms"].astype(np.int64),
        "duration_ms": catalogue.duration_V[item_E],
    }
    positive_E, negative_E = label_weights(pa.table(columns), labels)
    nothing_E = np.zeros(len(item_E), np.uint8)
    return Sequences(
        catalogue=catalogue,
        user_ids=np.arange(users),
        offsets_U1=np.append(0, np.cumsum(np.bincount(event["user"], minlength=users))),
        item_E=item_E.astype(np.int32),
        dislike_E=(1 + event["dislike"]).astype(np.uint8),
        dismissal_E=(1 + event["dismissal"]).astype(np.uint8),
        dwell_E=event["dwell"],
        watch_ratio_E=event["watch_ratio"],
        gap_E=event["gap"],
        surface_E=nothing_E,
        time_E=np.rint(event["start_s"].astype(np.float64) * 1_000).astype(np.int64),
        positive_weight_E=positive_E,
        negative_weight_E=negative_E,
        split_E=nothing_E,
        report={"source": "live"},
    )
