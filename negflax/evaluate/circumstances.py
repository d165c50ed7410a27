"""What must hold before figures mean anything, and what a reader must know beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from absl import logging

from negflax.config import ConfigError
from negflax.data import Catalogue, Sequences
from negflax.evaluate.protocol import Queries


def check_list_lengths(ks: Sequence[int], catalogue: Catalogue) -> None:
    """No list is longer than the catalogue.

    Raises:
      ConfigError: one would be.
    """
    items = catalogue.num_rows - 1
    if max(ks) > items:
        raise ConfigError(
            f"config.eval.ks = {tuple(ks)}: the catalogue has {items} items, no list is longer"
        )


def circumstances(sequences: Sequences, queries: Queries, split: str) -> dict[str, int]:
    """Counts for the report, with a warning for those that change what the figures mean.

    Returns:
      users_without_history: queries that a newcomer's list answers; unknown_positives and
      unknown_negatives: labels of the period on items that the run has not seen, left out.
    """
    unknown = sequences.report.get("unknown_items", {}).get(split, {})
    lost = unknown.get("positives", 0) + unknown.get("negatives", 0)
    judged = len(queries.judged_item_J)
    if lost > judged:
        logging.warning(
            "%d labels of the %s period are on items unknown to the run and left out, %d remain: "
            "is this the log that it was trained on?",
            lost,
            split,
            judged,
        )
    for sign, among in (
        ("positive", queries.judged_positive_J),
        ("negative", ~queries.judged_positive_J),
    ):
        if not among.any():
            logging.warning(
                "no %s in the %s period: metrics about %ss are undefined (null in JSON, – in "
                "tables)",
                sign,
                split,
                sign,
            )
    empty = queries.end_R == sequences.offsets_U1[queries.user_R]
    return {
        "users_without_history": int(np.sum(empty)),
        "unknown_positives": unknown.get("positives", 0),
        "unknown_negatives": unknown.get("negatives", 0),
    }
