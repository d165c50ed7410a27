"""What must hold before figures mean anything, and what a reader must know beside them."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from absl import logging

from negflax.config import ConfigError
from negflax.data import Catalogue, Sequences
from negflax.evaluate.protocol import EvaluationError, Requests
from negflax.train.restore import Trained


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


def check_finite(trained: Trained) -> None:
    """Every row of every table is finite.

    Raises:
      EvaluationError: one is not; the message names it.
    """
    for name, table in trained.state["tables"].items():
        rows = table["rows"][: trained.model.tables[name].num_rows]
        finite_V = jnp.isfinite(rows).all(axis=1)
        if not finite_V.all():
            raise EvaluationError(
                f"step {trained.step}: table {name!r} has {int((~finite_V).sum())} rows with NaN "
                f"or infinity, the first is row {int(jnp.argmin(finite_V))}: the run has diverged; "
                "choose an earlier checkpoint, or train with a lower "
                "config.optimizer.table_learning_rate"
            )


def circumstances(sequences: Sequences, requests: Requests, split: str) -> dict[str, int]:
    """Counts for the report, with a warning for those that change what the figures mean.

    Returns:
      users_without_history: requests that a newcomer's list answers; unknown_positives and
      unknown_negatives: labels of the period on items that the run has not seen, left out.
    """
    unknown = sequences.report.get("unknown_items", {}).get(split, {})
    lost = unknown.get("positives", 0) + unknown.get("negatives", 0)
    judged = len(requests.judged_item_J)
    if lost > judged:
        logging.warning(
            "%d labels of the %s period are on items unknown to the run and left out, %d remain: "
            "is this the log that it was trained on?", lost, split, judged,
        )  # fmt: skip
    for sign, among in (("positive", requests.judged_positive_J),
                        ("negative", ~requests.judged_positive_J)):  # fmt: skip
        if not among.any():
            logging.warning(
                "no %s in the %s period: metrics about %ss are undefined (null in JSON, – in "
                "tables)", sign, split, sign,
            )  # fmt: skip
    empty = requests.end_R == sequences.offsets_U1[requests.user_R]
    return {
        "users_without_history": int(np.sum(empty)),
        "unknown_positives": unknown.get("positives", 0),
        "unknown_negatives": unknown.get("negatives", 0),
    }
