"""What data_report.json says of a log: counts by split, the item table, times; and warnings.

Shapes: E events of a part, I rows of the item table.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from absl import logging

from negflax.config import Config
from negflax.data.catalogue import Catalogue
from negflax.data.cells import DataError
from negflax.data.columns import factorize
from negflax.data.schema import SPLITS
from negflax.data.times import wrong_unit

Counts = Mapping[tuple[str, ...], int]


def split_counts(
    group: str, split_E: np.ndarray, positive_E: np.ndarray, negative_E: np.ndarray
) -> dict[tuple[str, ...], int]:
    """Returns (group, split, what) → number of events, positives and negatives of a part."""
    found = {}
    for i, split in enumerate(SPLITS):
        inside = split_E == i
        found[group, split, "events"] = int(np.count_nonzero(inside))
        found[group, split, "positives"] = int(np.count_nonzero(positive_E[inside]))
        found[group, split, "negatives"] = int(np.count_nonzero(negative_E[inside]))
    return found


def split_report(counts: Counts) -> dict[str, dict[str, dict[str, int]]]:
    """Returns the summed counts of `split_counts` as nested dicts: group → split → what."""
    return {
        group: {
            split: {
                what: counts[group, split, what] for what in ("events", "positives", "negatives")
            }
            for split in SPLITS
        }
        for group in ("splits", "unknown_items")
    }


def item_table_report(name: str, catalogue: Catalogue, items: pa.Table) -> dict[str, int]:
    """Returns how many items the table describes; warns if it is less than half of them."""
    row_I = catalogue.rows(factorize(items["item_id"])[1])
    described = len(np.unique(row_I[row_I > 0]))
    if 2 * described < len(catalogue.item_ids):
        logging.warning(
            "%s: the item table has %d of %d items: check that its ids are those of the log",
            name,
            described,
            len(catalogue.item_ids),
        )
    found = {"rows": items.num_rows, "items_described": described}
    if catalogue.vector_VW is not None:
        found["items_without_vector"] = int((~catalogue.vector_VW[1:].any(axis=1)).sum())
    return found


def time_report(name: str, newest: int, early: int) -> dict[str, str | int]:
    """Returns what is suspicious about the times, with a warning; empty if nothing is.

    Args:
      name: of the source.
      newest: largest timestamp, in milliseconds if the log is right.
      early: number of events before 1973.
    """
    if unit := wrong_unit(newest):
        logging.warning(
            "%s: `timestamp_ms` looks like %s, not milliseconds, and the model reads times between "
            "events: convert it to milliseconds, or use a column of the type timestamp",
            name,
            unit,
        )
        return {"times_look_like": unit}
    if early:
        logging.warning(
            "%s: `timestamp_ms` of %d events is before 1973, that of others later: leave the field "
            "empty where the time is unknown, and use one unit for all",
            name,
            early,
        )
        return {"times_before_1973": early}
    return {}


def require_every_split(counts: dict[str, dict[str, int]], config: Config, name: str) -> None:
    """Refuses a log without an event in a split that the run needs.

    Args:
      counts: split → counts, of `split_report`.
      config: its section data.
      name: of the source.

    Raises:
      DataError: it names the split and the settings to change.
    """
    optional = config.data.split == "leave_one_out" or config.data.valid_fraction == 0
    for split in SPLITS:
        if counts[split]["events"] == 0 and not (optional and split == "valid"):
            if config.data.split == "column" and split == "valid":
                raise DataError(
                    f"{name}: column `split` has no `valid` event on a known item: mark some, "
                    "use another config.data.split, or train without validation: "
                    "config.data.valid_fraction = 0 and config.train.eval_every = 0"
                )
            raise DataError(
                f"{name}: no event on a known item is in the split `{split}` "
                f"(config.data.split = {config.data.split!r}): move config.data.valid_from and "
                "test_from or the fractions, or lower config.data.min_item_events"
            )
