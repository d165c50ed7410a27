"""Parts of the judged items that are scored apart: popularity, history length, kind of negative.

Shapes: R requests, J judged items, H events of their histories, V catalogue rows.
"""

from __future__ import annotations

import numpy as np

from negflax.data import Catalogue, Sequences
from negflax.evaluate.filters import DISLIKED
from negflax.evaluate.protocol import Requests, history_events


def slices(sequences: Sequences, requests: Requests) -> dict[str, np.ndarray]:
    """name → bool (J,): the judged items that count in this part.

    `item_popularity=low|middle|high`: terciles of the catalogue's items by training events.
    `history=short|middle|long`: terciles of the requests by events in their history.
    `negative=same_item|kin|unrelated`: strata of the negatives (SPEC section 5.4), beside all
    positives: the item is in the history; it is not, but shares its creator or a cluster with a
    history item that got negative feedback; neither.
    """
    catalogue = sequences.catalogue
    popularity = _terciles(catalogue.train_count_V[1:], ("low", "middle", "high"))
    length_R = requests.end_R - sequences.offsets_U1[requests.user_R]
    history = _terciles(length_R, ("short", "middle", "long"))
    kind_J = negative_strata(sequences, requests)
    parts = {
        f"item_popularity={name}": chosen_I[requests.judged_item_J - 1]
        for name, chosen_I in popularity.items()
    }
    parts |= {f"history={name}": chosen_R[requests.request_J] for name, chosen_R in history.items()}
    return parts | {
        f"negative={name}": requests.judged_positive_J | (kind_J == number)
        for number, name in enumerate(STRATA)
    }


STRATA = ("same_item", "kin", "unrelated")


def negative_strata(sequences: Sequences, requests: Requests) -> np.ndarray:
    """int (J,) index into STRATA of each judged item, as if it were a negative; see `slices`."""
    request_H, event_H = history_events(sequences, requests)
    seen_J = _pairs_in(
        requests.request_J, requests.judged_item_J, request_H, sequences.item_E[event_H]
    )
    rejected = rejected_before(sequences, requests)
    return np.where(seen_J, 0, np.where(rejected["creator"] | rejected["cluster"], 1, 2))


def rejected_before(sequences: Sequences, requests: Requests) -> dict[str, np.ndarray]:
    """`creator`, `cluster` → bool (J,): the judged item shares it with a history item rejected."""
    request_H, event_H = history_events(sequences, requests)
    bad_H = (sequences.negative_weight_E[event_H] > 0) | (sequences.dislike_E[event_H] == DISLIKED)
    request_N, item_N = request_H[bad_H], sequences.item_E[event_H][bad_H]
    request_J, item_J = requests.request_J, requests.judged_item_J
    found = {}
    for name, group_VC in _groups(sequences.catalogue).items():
        found[name] = np.zeros(len(item_J), bool)
        for column_J in group_VC[item_J].T:
            for column_N in group_VC[item_N].T:
                same_J = _pairs_in(request_J, column_J, request_N, column_N)
                found[name] |= (column_J > 0) & same_J
    return found


def _groups(catalogue: Catalogue) -> dict[str, np.ndarray]:
    return {"creator": catalogue.creator_V[:, None], "cluster": catalogue.clusters_VC}


def _pairs_in(
    request_J: np.ndarray, value_J: np.ndarray, request_H: np.ndarray, value_H: np.ndarray
) -> np.ndarray:
    """Whether each pair (request, value) is among the others."""
    width = max(value_J.max(initial=0), value_H.max(initial=0)) + 1
    return np.isin(request_J * width + value_J, request_H * width + value_H)


def _terciles(values: np.ndarray, names: tuple[str, str, str]) -> dict[str, np.ndarray]:
    """Three groups by the values' terciles; equal values stay together."""
    edges = np.quantile(values, (1 / 3, 2 / 3), method="lower")
    group = np.searchsorted(edges, values, side="left")
    return {name: group == number for number, name in enumerate(names)}
