"""What a training step is given: a batch of rows, each a stretch of users' events.

Shapes: B rows, T steps, L labels a step, R request features.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    """B rows of T steps, a pytree of arrays.

    Attributes:
      item_ids_BT: int32 row of the item that was last seen, 0 at the start and in the padding.
      dislike_BT: int32 codes of that event's features, as are the next five; 0 unknown.
      dwell_BT: int32.
      watch_ratio_BT: int32.
      gap_BT: int32.
      surface_BT: int32.
      dismissal_BT: int32.
      creator_BT: int32 number of the item's creator, 0 unknown.
      cluster_BT: int32 number of the item's first cluster, 0 unknown.
      reset_BT: bool, the state is zeroed before this step: where a user begins, in the first column
        and in the padding.
      label_ids_BTL: int32 rows of the labels, 0 = absent.
      positive_weight_BTL: float32 r.
      negative_weight_BTL: float32 w.
      request_BTR: int32 codes of the time at which the state after this step is asked for a list
        (features.request_codes); None where nobody knows.
    """

    item_ids_BT: np.ndarray
    dislike_BT: np.ndarray
    dwell_BT: np.ndarray
    watch_ratio_BT: np.ndarray
    gap_BT: np.ndarray
    surface_BT: np.ndarray
    dismissal_BT: np.ndarray
    creator_BT: np.ndarray
    cluster_BT: np.ndarray
    reset_BT: np.ndarray
    label_ids_BTL: np.ndarray
    positive_weight_BTL: np.ndarray
    negative_weight_BTL: np.ndarray
    request_BTR: np.ndarray | None = None
