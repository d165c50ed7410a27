"""Inputs of the model that the data has nothing for: they are read, and say nothing."""

from __future__ import annotations

from collections.abc import Iterable

from negflax.data.sequences import Sequences


def empty_inputs(sequences: Sequences, names: Iterable[str]) -> list[str]:
    """Which of these inputs are unknown for all events, or for all items.

    Args:
      sequences: the events.
      names: `creator`, `cluster` or columns of `sequences` without their suffix.
    """
    catalogue = sequences.catalogue
    of_items = {"creator": catalogue.creator_V, "cluster": catalogue.clusters_VC}
    found = []
    for name in names:
        known = of_items[name] if name in of_items else getattr(sequences, f"{name}_E", None)
        if known is None or not known.any():
            found.append(name)
    return found
