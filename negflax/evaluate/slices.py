"""Subsets of the judged items, by popularity, length of the history and kind of negative.

Shapes: R queries, J judged items, H events of their histories, V catalogue rows.
"""

from __future__ import annotations

import numpy as np

from negflax.data import Catalogue, Sequences
from negflax.data.histories import history_events
from negflax.evaluate.baselines.filters import DISLIKED
from negflax.evaluate.protocol import Queries


def slices(sequences: Sequences, queries: Queries) -> dict[str, np.ndarray]:
    """Returns the judged items of each subset, bool (J,), by name.

    `item_popularity=low|middle|high`: terciles of the catalogue's items by training events.
    `history=short|middle|long`: terciles of the queries by length of the history.
    `negative=same_item|related|unrelated`: strata of the negatives (docs/method.md §5.4) and all
    positives. same_item: the item is in the history. related: it is not, but shares the creator or
    a cluster with a history item that got negative feedback. unrelated: all others.
    """
    catalogue = sequences.catalogue
    popularity = _terciles(catalogue.train_count_V[1:], ("low", "middle", "high"))
    length_R = queries.end_R - sequences.offsets_U1[queries.user_R]
    history = _terciles(length_R, ("short", "middle", "long"))
    kind_J = negative_strata(sequences, queries)
    parts = {
        f"item_popularity={name}": chosen_I[queries.judged_item_J - 1]
        for name, chosen_I in popularity.items()
    }
    parts |= {f"history={name}": chosen_R[queries.query_J] for name, chosen_R in history.items()}
    return parts | {
        f"negative={name}": queries.judged_positive_J | (kind_J == number)
        for number, name in enumerate(STRATA)
    }


STRATA = ("same_item", "related", "unrelated")


def negative_strata(sequences: Sequences, queries: Queries) -> np.ndarray:
    """Returns the index into STRATA of each judged item, int (J,), as if it were a negative."""
    query_H, event_H = history_events(sequences, queries.user_R, queries.end_R)
    seen_J = _pairs_in(queries.query_J, queries.judged_item_J, query_H, sequences.item_E[event_H])
    rejected = rejected_before(sequences, queries)
    return np.where(seen_J, 0, np.where(rejected["creator"] | rejected["cluster"], 1, 2))


def rejected_before(sequences: Sequences, queries: Queries) -> dict[str, np.ndarray]:
    """Returns for `creator` and `cluster` whether a judged item shares it with a rejected one.

    bool (J,); rejected are items of the history with negative feedback.
    """
    query_H, event_H = history_events(sequences, queries.user_R, queries.end_R)
    bad_H = (sequences.negative_weight_E[event_H] > 0) | (sequences.dislike_E[event_H] == DISLIKED)
    query_N, item_N = query_H[bad_H], sequences.item_E[event_H][bad_H]
    query_J, item_J = queries.query_J, queries.judged_item_J
    found = {}
    for name, group_VC in _groups(sequences.catalogue).items():
        found[name] = np.zeros(len(item_J), bool)
        for column_J in group_VC[item_J].T:
            for column_N in group_VC[item_N].T:
                same_J = _pairs_in(query_J, column_J, query_N, column_N)
                found[name] |= (column_J > 0) & same_J
    return found


def _groups(catalogue: Catalogue) -> dict[str, np.ndarray]:
    return {"creator": catalogue.creator_V[:, None], "cluster": catalogue.clusters_VC}


def _pairs_in(
    query_J: np.ndarray, value_J: np.ndarray, query_H: np.ndarray, value_H: np.ndarray
) -> np.ndarray:
    """Returns whether each pair (query_J, value_J) is among the pairs (query_H, value_H)."""
    width = max(value_J.max(initial=0), value_H.max(initial=0)) + 1
    return np.isin(query_J * width + value_J, query_H * width + value_H)


def _terciles(values: np.ndarray, names: tuple[str, str, str]) -> dict[str, np.ndarray]:
    """Returns three groups by terciles of the values; equal values are in the same group."""
    edges = np.quantile(values, (1 / 3, 2 / 3), method="lower")
    group = np.searchsorted(edges, values, side="left")
    return {name: group == number for number, name in enumerate(names)}
