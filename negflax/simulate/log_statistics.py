"""Statistics of a log, to compare the simulated log with a real one.

Shapes: E events, in the order of users and time.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from negflax.data.columns import factorize, floats, integers
from negflax.data.sources import RawData
from negflax.simulate.repeat_effects import Interval, ratio_after, repeat_effect

LATE = 0.22  # share of the newest events, over which rates are computed; the rest is history


def describe(raw: RawData) -> dict[str, float | Interval]:
    """Returns statistics of a log by name, those of feedback on one kind with (low, high) as well.

    Rates are computed over the newest 22 % of the events by time, as the history part of KuaiRand
    has no skips. The `skip after a skip` figures compare a skipped with a long-viewed last event of
    the same cluster or creator (repeat_effects.py).

    Args:
      raw: log with the columns long_view, like, dislike, dwell_ms, duration_ms, pos, timestamp_ms,
        and an item table with cluster_ids and creator_id. A skip is a dwell shorter than 3 s and
        shorter than the video, on any surface. Events of unknown time count as history.
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

    exposure_I = np.sort(np.bincount(item_E))[::-1]
    share_I = np.cumsum(exposure_I) / exposure_I.sum()
    per_user = np.bincount(user_E)
    figures = {name: float(np.nanmean(value[late_E])) for name, value in flag.items()}
    viewed_E = flag["long_view"] == 1
    figures["P(dislike | long view) / P(dislike)"] = ratio_after(
        flag["dislike"], viewed_E.astype(np.float64), user_E
    )
    late_skip_E = np.where(late_E, flag["skip"], np.nan)
    kinds = {"cluster": cluster_E, "creator": creators(events["item_id"], raw.items)}
    for kind, kind_E in kinds.items():
        for name, of_E in ((kind, kind_E), (f"{kind}, permuted", _permuted(item_E, kind_E))):
            figures[f"skip after a skip by {name}"] = repeat_effect(
                user_E, item_E, of_E, late_skip_E, viewed_E
            )
    for share in (0.01, 0.1, 0.5):
        top = max(1, round(share * len(share_I))) - 1
        figures[f"events on the top {share:.0%} of items"] = float(share_I[top])
    for q in (5, 25, 50, 75, 95):
        figures[f"events per user, {q}th percentile"] = float(np.percentile(per_user, q))
    return figures


def compare(logs: Mapping[str, Mapping[str, float | Interval]]) -> list[dict[str, object]]:
    """Returns the rows of a table that compares logs, given by name."""
    first = next(iter(logs.values()))
    return [{"figure": k, **{name: found[k] for name, found in logs.items()}} for k in first]


def first_clusters(item_ids: pa.ChunkedArray, items: pa.Table) -> np.ndarray:
    """Returns the first cluster of each event's item, (E,) int64, −1 if unknown."""
    lists = items["cluster_ids"].combine_chunks()
    known_I = pc.fill_null(pc.list_value_length(lists), 0).to_numpy() > 0
    all_V = np.append(lists.values.to_numpy(), -1)  # padded, as empty lists at the end point here
    first_I = np.where(known_I, all_V[lists.offsets.to_numpy()[:-1]], -1).astype(np.int64)
    place_E = integers(pc.index_in(item_ids, value_set=items["item_id"].combine_chunks()), -1)
    return np.append(first_I, -1)[place_E]


def creators(item_ids: pa.ChunkedArray, items: pa.Table) -> np.ndarray:
    """Returns the creator of each event's item, (E,) int64, −1 if unknown."""
    if "creator_id" not in items.column_names:
        return np.full(len(item_ids), -1)
    creator_I = np.append(factorize(pc.fill_null(items["creator_id"], -1))[0], -1)
    known_I = np.append(items["creator_id"].is_valid().to_numpy(), False)
    place_E = integers(pc.index_in(item_ids, value_set=items["item_id"].combine_chunks()), -1)
    return np.where(known_I[place_E], creator_I[place_E], -1)


def _permuted(item_E: np.ndarray, kind_E: np.ndarray) -> np.ndarray:
    """Returns the kinds of the events with the items' kinds in random order."""
    kind_I = np.full(item_E.max() + 1, -1)
    kind_I[item_E] = kind_E
    return np.random.default_rng(0).permutation(kind_I)[item_E]


def _flags(events: pa.Table, name: str) -> np.ndarray:
    """Returns a boolean column as floats: 1, 0, or NaN for null."""
    return floats(events[name].cast(pa.int8()))
