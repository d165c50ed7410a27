"""Replay on randomly shown items: estimates the feedback on lists without exposure bias.

If a platform showed some items at random, the event log marks them in a column `random_exposure`.
An event is counted for a scorer if its item is in the list that the scorer gives just before the
event (Li et al., WSDM 2011). As every item was equally likely to be shown, the mean feedback of the
counted events estimates the mean feedback on the items of the lists.

Shapes: R randomly shown events, each with its own query; K list length.
"""

from __future__ import annotations

import numpy as np

from negflax.data import SPLITS, Sequences
from negflax.evaluate.baselines.filters import DISLIKED
from negflax.evaluate.metrics import QueryValues
from negflax.evaluate.protocol import Queries, each_event
from negflax.evaluate.ranking import Ranks

RANDOM = 2  # code of a randomly shown item in `Sequences.random_E`


def replay_queries(sequences: Sequences, split: str) -> Queries | None:
    """Returns a query just before each randomly shown event of the split; None if there is none.

    The event's item is judged, as positive if it has a positive label.
    """
    if sequences.random_E is None:
        return None
    in_split_E = sequences.split_E == SPLITS.index(split)
    of_item_E = sequences.item_E > 0
    event_R = np.flatnonzero((sequences.random_E == RANDOM) & in_split_E & of_item_E)
    if not len(event_R):
        return None
    user_R = np.searchsorted(sequences.offsets_U1, event_R, side="right") - 1
    return each_event(sequences, event_R, user_R)


def replay_values(
    ranks: Ranks, queries: Queries, sequences: Sequences, ks: tuple[int, ...]
) -> dict[str, QueryValues]:
    """Returns the feedback of the events whose items are in the lists, by metric@K.

    Args:
      ranks: ranks of the queries.
      queries: queries from `replay_queries`.
      sequences: their events.
      ks: list lengths K.

    Returns:
      `replay/positive_rate@K` and `replay/negative_rate@K`, the shares of events with a positive or
      a negative label; `replay/dislike_rate@K`, the share of explicit dislikes among events whose
      dislike bit is known. The weight of an event is the probability that its item is in the list,
      which is 0 or 1 except for ties.
    """
    event_R = queries.end_R
    dislike_R = sequences.dislike_E[event_R]
    feedback = {
        "positive_rate": (sequences.positive_weight_E[event_R] > 0, True),
        "negative_rate": (sequences.negative_weight_E[event_R] > 0, True),
        "dislike_rate": (dislike_R == DISLIKED, dislike_R > 0),
    }
    found = {}
    for k in ks:
        listed_R = np.clip((k - ranks.greater_J) / ranks.ties_J, 0, 1) * ranks.eligible_J
        for name, (got_R, known_R) in feedback.items():
            weight_R = listed_R * known_R
            value_R = np.where(weight_R > 0, got_R, np.nan)
            found[f"replay/{name}@{k}"] = QueryValues(value_R, weight_R)
    return found
