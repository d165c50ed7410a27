"""Training batches: users concatenated into one stream of steps, cut into rows of T.

A user's n events give n steps: step 1 reads the start (item 0) and predicts the first event, step t
reads event t-1 with its feedback and predicts event t. So the feedback of a target is never in its
own input (SPEC section 5.3).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from negflax.config import BatchConfig, LabelConfig
from negflax.data.schema import SPLITS
from negflax.data.sequences import Sequences


class Batch(NamedTuple):
    """B rows of T steps, a pytree of arrays.

    Attributes:
      item_ids_BT: int32 row of the item that was last seen, 0 at the start and in the padding.
      dislike_BT: int32 codes of that event's features, as are the next four; 0 unknown.
      dwell_BT: int32.
      watch_ratio_BT: int32.
      gap_BT: int32.
      surface_BT: int32.
      creator_BT: int32 number of the item's creator, 0 unknown.
      cluster_BT: int32 number of the item's first cluster, 0 unknown.
      reset_BT: bool, the state is zeroed before this step: where a user begins, in the first column
        and in the padding.
      label_ids_BTL: int32 rows of the labels, 0 = absent.
      positive_weight_BTL: float32 r.
      negative_weight_BTL: float32 w.
    """

    item_ids_BT: np.ndarray
    dislike_BT: np.ndarray
    dwell_BT: np.ndarray
    watch_ratio_BT: np.ndarray
    gap_BT: np.ndarray
    surface_BT: np.ndarray
    creator_BT: np.ndarray
    cluster_BT: np.ndarray
    reset_BT: np.ndarray
    label_ids_BTL: np.ndarray
    positive_weight_BTL: np.ndarray
    negative_weight_BTL: np.ndarray


class StreamBatches:
    """The training batches of some splits; batch i is a pure function of (config.seed, i).

    Attributes:
      steps_per_epoch: batches in a pass over all steps; batch i belongs to epoch
        i // steps_per_epoch.
      num_targets: label slots with a weight in an epoch.
    """

    def __init__(
        self,
        sequences: Sequences,
        config: BatchConfig,
        labels: LabelConfig,
        splits: tuple[str, ...],
    ) -> None:
        """Collects the splits' events and the labels of their steps.

        Args:
          sequences: the data set.
          config: B, T and the seed of the order of users.
          labels: its horizon.
          splits: names of the splits to train on.

        Raises:
          ValueError: they hold no event.
        """
        self._sequences = sequences
        self._config = config
        codes = [SPLITS.index(split) for split in splits]
        chosen_E = np.isin(sequences.split_E, codes)
        self._event_N = np.flatnonzero(chosen_E)
        bounds = np.append(0, np.cumsum(chosen_E))[sequences.offsets_U1]
        begin, length = bounds[:-1], np.diff(bounds)
        self._begin, self._length = begin[length > 0], length[length > 0]
        if not len(self._event_N):
            raise ValueError(f"no event is in the splits {splits}: nothing to train on")
        self._label_NL = self._labels(labels.horizon)
        self.num_targets = int(np.sum(self._label_NL >= 0))
        self.steps_per_epoch = math.ceil(len(self._event_N) / (config.rows * config.length))
        self._epoch: tuple[int, np.ndarray, np.ndarray] | None = None

    def batch(self, i: int) -> Batch:
        """Batch i.

        Row j covers positions [(b·B + j)·T, (b·B + j + 1)·T) of the epoch's stream, b the batch's
        place in its epoch; what lies beyond the stream is padding.
        """
        epoch, b = divmod(i, self.steps_per_epoch)
        order_U, start_U = self._order(epoch)
        rows, length = self._config.rows, self._config.length
        position = np.arange(b * rows * length, (b + 1) * rows * length)
        inside = position < len(self._event_N)
        rank = np.searchsorted(start_U, position, side="right") - 1
        step = position - start_U[rank]
        target = np.where(inside, self._begin[order_U[rank]] + step, 0)
        seen = np.where(inside & (step > 0), self._event_N[target - 1], -1)
        label = np.where(inside[:, None], self._label_NL[target], -1)
        return _gather(self._sequences, seen.reshape(rows, length), label)

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """(users in the epoch's order, position of each one's first step in the stream)."""
        cached = self._epoch  # read once: a prefetching thread may be at work as well
        if cached is None or cached[0] != epoch:
            order_U = np.random.default_rng((self._config.seed, epoch)).permutation(
                len(self._length)
            )
            length_U = self._length[order_U]
            cached = self._epoch = (epoch, order_U, np.cumsum(length_U) - length_U)
        return cached[1], cached[2]

    def _labels(self, horizon: int) -> np.ndarray:
        """Event index of each step's labels (N, L), -1 = absent."""
        positive_N = self._sequences.positive_weight_E[self._event_N] > 0
        negative_N = self._sequences.negative_weight_E[self._event_N] > 0
        if horizon == 1:
            return np.where(positive_N | negative_N, self._event_N, -1)[:, None]
        num = len(self._event_N)
        here = np.arange(num)
        end_N = np.minimum(np.repeat(self._begin + self._length, self._length), here + horizon)
        slots = []
        for wanted_N in (positive_N, negative_N):
            next_N = np.minimum.accumulate(np.where(wanted_N, here, num)[::-1])[::-1]
            event_N = self._event_N[np.minimum(next_N, num - 1)]
            slots.append(np.where(next_N < end_N, event_N, -1))
        return np.stack(slots, axis=1)


def history_batch(
    sequences: Sequences, end_R: np.ndarray, user_R: np.ndarray, length: int
) -> Batch:
    """Histories of R requests, right-aligned: the state after the last column answers the request.

    A history of fewer than T events is preceded by its start step, and that by padding; a longer
    one is its newest T events, as if a row were cut there.

    Args:
      sequences: the data set.
      end_R: int64 index, over all events, one after the last event that the request may see.
      user_R: index of the user in sequences.user_ids.
      length: T.

    Returns:
      A batch of R rows without labels (L = 1, all 0).

    Raises:
      ValueError: an end outside its user's events.
    """
    end_R, user_R = np.asarray(end_R, np.int64), np.asarray(user_R, np.int64)
    begin_R = sequences.offsets_U1[user_R]
    if np.any(end_R < begin_R) or np.any(end_R > sequences.offsets_U1[user_R + 1]):
        raise ValueError("end_R: an index outside the events of its user")
    event_RT = end_R[:, None] + np.arange(-length, 0)
    seen_RT = np.where(event_RT >= begin_R[:, None], event_RT, -1)
    return _gather(sequences, seen_RT, np.full((seen_RT.size, 1), -1))


def _gather(sequences: Sequences, seen_BT: np.ndarray, label_NL: np.ndarray) -> Batch:
    """The batch whose steps read the events seen_BT and predict label_NL (-1 = none)."""
    known_BT = seen_BT >= 0
    label_BTL = label_NL.reshape(*seen_BT.shape, -1)
    present_BTL = label_BTL >= 0

    def read(column_E: np.ndarray) -> np.ndarray:
        return np.where(known_BT, column_E[seen_BT], 0).astype(np.int32)

    def labels(column_E: np.ndarray) -> np.ndarray:
        return np.where(present_BTL, column_E[label_BTL], 0).astype(column_E.dtype)

    item_BT = read(sequences.item_E)
    reset_BT = ~known_BT
    reset_BT[:, 0] = True
    return Batch(
        item_ids_BT=item_BT,
        dislike_BT=read(sequences.dislike_E),
        dwell_BT=read(sequences.dwell_E),
        watch_ratio_BT=read(sequences.watch_ratio_E),
        gap_BT=read(sequences.gap_E),
        surface_BT=read(sequences.surface_E),
        creator_BT=sequences.catalogue.creator_V[item_BT],
        cluster_BT=sequences.catalogue.clusters_VC[item_BT, 0],
        reset_BT=reset_BT,
        label_ids_BTL=labels(sequences.item_E),
        positive_weight_BTL=labels(sequences.positive_weight_E),
        negative_weight_BTL=labels(sequences.negative_weight_E),
    )
