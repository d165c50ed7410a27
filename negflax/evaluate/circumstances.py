"""Checks before an evaluation, and counts that a reader needs to interpret its figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from absl import logging

from negflax.config import ConfigError
from negflax.data import Catalogue, Sequences
from negflax.evaluate.protocol import Queries


def check_list_lengths(ks: Sequence[int], catalogue: Catalogue) -> None:
    """Checks that no list is longer than the catalogue.

    Raises:
      ConfigError: a list length exceeds the number of items.
    """
    items = catalogue.num_rows - 1
    if max(ks) > items:
        raise ConfigError(
            f"config.eval.ks = {tuple(ks)}: the catalogue has only {items} items: use shorter lists"
        )


def circumstances(sequences: Sequences, queries: Queries, split: str) -> dict[str, int]:
    """Returns counts for the report, and warns if they affect the meaning of the figures.

    Returns:
      `users_without_history`: queries with an empty history, which all get the same list;
      `unknown_positives` and `unknown_negatives`: labels of the period that are left out, as their
      items are unknown to the run.
    """
    unknown = sequences.report.get("unknown_items", {}).get(split, {})
    lost = unknown.get("positives", 0) + unknown.get("negatives", 0)
    judged = len(queries.judged_item_J)
    if lost > judged:
        logging.warning(
            "%d labels of the %s period were left out, as their items are unknown to the run; %d "
            "remain. Check that this is the log that the run was trained on.",
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
                "there is no %s label in the %s period: metrics of %ss are undefined (null in "
                "JSON, – in tables)",
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
