"""What a model needs to know of the items: how many rows its tables have, and who is related."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np


class Items(Protocol):
    """The items of a model: a Catalogue, or its sizes alone (negflax/train/plan.py).

    Attributes:
      num_rows: V, row 0 included.
      table_rows: rows of an item table: reserved ones follow the V.
      feature_sizes: values of each feature.
      fingerprint: which item each row is.
      creator_V: number of each item's creator, 0 unknown.
      clusters_VC: numbers of each item's clusters, 0 where there are fewer.
      vector_VW: a given vector of each item, 0 where it is unknown; None where no item has one.
    """

    @property
    def num_rows(self) -> int: ...  # noqa: D102

    @property
    def table_rows(self) -> int: ...  # noqa: D102

    @property
    def feature_sizes(self) -> Mapping[str, int]: ...  # noqa: D102

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    @property
    def creator_V(self) -> np.ndarray: ...  # noqa: D102

    @property
    def clusters_VC(self) -> np.ndarray: ...  # noqa: D102

    @property
    def vector_VW(self) -> np.ndarray | None: ...  # noqa: D102
