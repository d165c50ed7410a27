"""The baselines: popularity, Markov chains, item-to-item models, rate-adjusted scores, filters."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Baseline(NamedTuple):
    """A baseline.

    Attributes:
      name: name of its row in tables, and prefix of its keys in JSON.
      kind: `on_model`: computed from the model's own scores; `item_based`: fitted to pairs of
        items, for catalogues that are small enough; `counts`: computed from counts of events.
    """

    name: str
    kind: Literal["on_model", "item_based", "counts"]


# The order is that of the rows in tables.
BASELINES = (
    Baseline("rate_adjusted", "on_model"),
    Baseline("block_creator", "on_model"),
    Baseline("drop_disliked", "on_model"),
    Baseline("ease", "item_based"),
    Baseline("ease_recent", "item_based"),
    Baseline("ease_signed", "item_based"),
    Baseline("item_knn", "item_based"),
    Baseline("als", "item_based"),  # where `implicit` is installed
    Baseline("markov", "counts"),
    Baseline("markov_5", "counts"),
    Baseline("popularity", "counts"),
    Baseline("signed_popularity", "counts"),
    Baseline("random", "counts"),
)


def baseline_names(*kinds: str) -> tuple[str, ...]:
    """Returns the names of the baselines of these kinds, or of all, in the order of BASELINES."""
    return tuple(one.name for one in BASELINES if not kinds or one.kind in kinds)
