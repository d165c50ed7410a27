"""An index of nearest neighbours over the items of a run, by faiss (docs/dependencies.md says why).

Maximum inner product with the bias exactly: the bias is the last column of an item's vector, and a
user's state gets a one there. faiss is imported when an index is built (`negflax[serve]`).

Shapes: I items (catalogue row i + 1 at place i), R users, D width with the column of the bias.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from negflax.config import ConfigError

EXACT_UP_TO = 20_000  # items: searching all of them takes less than a millisecond
TARGET = 0.97  # recall that the number of probed lists is chosen for
_LISTS = 4  # times √I inverted lists, as faiss advises
_TRAINING = 64  # items of a list that its centre is computed from
_ROUNDS = 8  # of k-means


@dataclasses.dataclass(frozen=True)
class Built:
    """An index and what was measured of it.

    Attributes:
      index: of faiss; its `search(states (R, D), k)` gives (scores, places).
      kind: as faiss's factory names it.
      recall: share of the exact lists' items that it finds, of `measured_on` users, at `k`.
      k: list length of that.
      measured_on: number of users.
    """

    index: Any
    kind: str
    recall: float
    k: int
    measured_on: int


def faiss() -> Any:
    """The library.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        import faiss as library
    except ImportError as error:
        raise ConfigError(
            "an index needs faiss: pip install 'negflax[serve]', or leave it out (--noindex)"
        ) from error
    return library


def build_index(items_ID: np.ndarray, states_RD: np.ndarray, k: int = 100) -> Built:
    """Builds an index, and chooses how many of its lists are probed.

    Args:
      items_ID: vectors of the items, float32.
      states_RD: user states with a one as the last column, to measure recall on.
      k: list length of the recall.

    Raises:
      ConfigError: faiss is not installed, or a vector is not finite.
    """
    library, items = faiss(), len(items_ID)
    for name, vectors in (("items", items_ID), ("users", states_RD)):
        if not np.isfinite(vectors).all():
            raise ConfigError(
                f"{name} has NaN or infinity, so it cannot be indexed: the run has diverged"
            )
    k = min(k, items)
    exact = library.IndexFlatIP(items_ID.shape[1])
    exact.add(np.ascontiguousarray(items_ID, np.float32))
    if items <= EXACT_UP_TO:
        return Built(exact, "Flat", 1.0, k, len(states_RD))
    lists = int(_LISTS * np.sqrt(items))
    kind = f"IVF{lists},Flat"
    index = library.index_factory(items_ID.shape[1], kind, library.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid, index.cp.niter = _TRAINING, _ROUNDS
    index.train(items_ID)
    index.add(items_ID)
    _, expected_RK = exact.search(states_RD, k)
    index.nprobe = 4
    while True:
        _, found_RK = index.search(states_RD, k)
        pairs = zip(expected_RK, found_RK, strict=True)
        recall = float(np.mean([len(np.intersect1d(a, b)) / k for a, b in pairs]))
        if recall >= TARGET or index.nprobe >= lists:
            return Built(index, kind, recall, k, len(states_RD))
        index.nprobe = min(lists, 2 * index.nprobe)
