"""Statistics of a log, to compare the simulated log with a real one.

Shapes: E events, in the order of users and time.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from negflax.data.columns import factorize, floats, integers
from negflax.data.sources import RawData

LATE = 0.22  # share of the newest events, over which rates are computed; the rest is history


def describe(raw: RawData) -> dict[str, float]:
    """Returns statistics of a log by name.

    Rates are computed over the newest 22 % of the events by time, as the history part of KuaiRand
    has no skips. The figures `long_view | …` are P(long view) given the user's earlier events in
    the item's cluster.

    Args:
      raw: log with the columns long_view, like, dislike, dwell_ms, duration_ms, pos, timestamp_ms,
        and an item table with cluster_ids. A skip is a dwell shorter than 3 s and shorter than the
        video, on any surface. Events of unknown time count as history.
    """
    events = raw.events.sort_by([("user_id", "ascending"), ("pos", "ascending")])
    user_E, item_E = (factorize(events[name])[0] for name in ("user_id", "item_id"))
    cluster_E = first_clusters(events["item_id"], raw.items)
    time_E = pc.fill_null(events["timestamp_ms"], -1).to_numpy()
    late_E = time_E >= np.quantile(time_E, 1 - LATE)
    flag = {name: _flags(events, name) for name in ("long_view", "like", "dislike")}
    dwell_E, duration_E = floats(events["dwell_ms"]), floats(events["duration_ms"])
    skip_E = dwell_E < np.fmin(3_000, duration_E)
    flag["skip"] = np.where(np.isnan(dwell_E), np.nan, skip_E)

    seen_E, viewed_E = _earlier(user_E, cluster_E, flag["long_view"] == 1)
    known_E = late_E & (cluster_E >= 0)
    only_E = known_E & (seen_E >= 1) & (viewed_E == seen_E)
    never_E = known_E & (seen_E >= 2) & (viewed_E == 0)
    exposure_I = np.sort(np.bincount(item_E))[::-1]
    share_I = np.cumsum(exposure_I) / exposure_I.sum()
    per_user = np.bincount(user_E)
    figures = {name: float(np.nanmean(value[late_E])) for name, value in flag.items()}
    figures["long_view | only long views of the cluster"] = float(flag["long_view"][only_E].mean())
    figures["long_view | ≥ 2 views of it, none long"] = float(flag["long_view"][never_E].mean())
    for share in (0.01, 0.1, 0.5):
        top = max(1, round(share * len(share_I))) - 1
        figures[f"events on the top {share:.0%} of items"] = float(share_I[top])
    for q in (5, 25, 50, 75, 95):
        figures[f"events per user, {q}th percentile"] = float(np.percentile(per_user, q))
    return figures


def compare(real: dict[str, float], simulated: dict[str, float]) -> list[dict[str, object]]:
    """Returns the rows of a table that compares the two logs."""
    return [{"figure": k, "real": real[k], "simulated": simulated[k]} for k in real]


def first_clusters(item_ids: pa.ChunkedArray, items: pa.Table) -> np.ndarray:
    """Returns the first cluster of each event's item, (E,) int64, −1 if unknown."""
    lists = items["cluster_ids"].combine_chunks()
    known_I = pc.fill_null(pc.list_value_length(lists), 0).to_numpy() > 0
    all_V = np.append(lists.values.to_numpy(), -1)  # padded, as empty lists at the end point here
    first_I = np.where(known_I, all_V[lists.offsets.to_numpy()[:-1]], -1).astype(np.int64)
    place_E = integers(pc.index_in(item_ids, value_set=items["item_id"].combine_chunks()), -1)
    return np.append(first_I, -1)[place_E]


def _flags(events: pa.Table, name: str) -> np.ndarray:
    """Returns a boolean column as floats: 1, 0, or NaN for null."""
    return floats(events[name].cast(pa.int8()))


def _earlier(
    user_E: np.ndarray, cluster_E: np.ndarray, long_view_E: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Counts earlier events, and earlier long views, of the same user in the same cluster."""
    order = np.lexsort((np.arange(len(user_E)), cluster_E, user_E))
    user, cluster = user_E[order], cluster_E[order]
    new = (np.diff(user, prepend=-1) != 0) | (np.diff(cluster, prepend=-2) != 0)
    start = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    before = np.append(0, np.cumsum(long_view_E[order]))[:-1]
    seen_E, viewed_E = np.empty((2, len(order)), np.int64)
    seen_E[order] = np.arange(len(order)) - start
    viewed_E[order] = before - before[start]
    return seen_E, viewed_E
