"""What a model has to beat: popularity, Markov chains, item-to-item models, heuristic filters."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Baseline(NamedTuple):
    """A row beside the model's.

    Attributes:
      name: of the row, and what its keys in JSON begin with.
      kind: `on_model`: made of the model's own scores, so that it cannot be ahead of it by itself;
        `item_based`: fitted to pairs of items, on catalogues that are small enough; `counts`.
    """

    name: str
    kind: Literal["on_model", "item_based", "counts"]


# In the order of the table's rows.
BASELINES = (
    Baseline("rate_adjusted", "on_model"),
    Baseline("block_creator", "on_model"),
    Baseline("drop_disliked", "on_model"),
    Baseline("ease", "item_based"),
    Baseline("ease_signed", "item_based"),
    Baseline("item_knn", "item_based"),
    Baseline("markov", "counts"),
    Baseline("popularity", "counts"),
    Baseline("signed_popularity", "counts"),
    Baseline("random", "counts"),
)


def baseline_names(*kinds: str) -> tuple[str, ...]:
    """Names of the baselines of these kinds, or of all, in the order of the table."""
    return tuple(one.name for one in BASELINES if not kinds or one.kind in kinds)
