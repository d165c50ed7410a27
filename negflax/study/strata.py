"""Subsets of the judged items in which a personal effect would show (docs/method.md §5.4).

Shapes: J judged items, V catalogue rows.
"""

from __future__ import annotations

import numpy as np

from negflax.data import Sequences
from negflax.evaluate.baselines.popularity import positive_rates
from negflax.evaluate.protocol import Queries
from negflax.evaluate.slices import STRATA, negative_strata, rejected_before

QUALITY = ("low", "middle", "high")
SAME_ITEM = f"negative={STRATA[0]}"  # defined only for lists that keep seen items


def parts(sequences: Sequences, queries: Queries, splits: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Returns subsets of the judged items by name, bool (J,).

    - `negative=same_item|related|unrelated`: strata of negatives, as in the evaluation's report.
    - `creator=rejected|other`, `cluster=rejected|other`: negatives by whether the user had rejected
      an item of that creator or cluster before.
    - `quality=low|middle|high`: thirds of the judged items by the item's smoothed share of
      positives in `splits`; items with equal shares are in the same third.

    The subsets of negatives also contain all positives.
    """
    positive_J = queries.judged_positive_J
    kind_J = negative_strata(sequences, queries)
    found = {f"negative={name}": positive_J | (kind_J == i) for i, name in enumerate(STRATA)}
    seen_J = kind_J == 0
    for group, rejected_J in rejected_before(sequences, queries).items():
        found[f"{group}=rejected"] = positive_J | (rejected_J & ~seen_J)
        found[f"{group}=other"] = positive_J | (~rejected_J & ~seen_J)
    rate_J = positive_rates(sequences, splits)[queries.judged_item_J]
    edges = np.quantile(rate_J, (1 / 3, 2 / 3), method="lower")
    third_J = np.searchsorted(edges, rate_J, side="left")
    return found | {f"quality={name}": third_J == i for i, name in enumerate(QUALITY)}
