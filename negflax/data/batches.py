"""Training batches: users concatenated into one stream of steps, cut into rows of T.

A user's n events give n steps: step 1 reads the start (item 0) and predicts the first event, step t
reads event t-1 with its feedback and predicts event t. So the feedback of a target is never in its
own input (docs/method.md §5.3). Its time is, as that of the request: it is known when a list is
asked for.
"""

from __future__ import annotations

import math

import numpy as np

from negflax.config import BatchConfig, Config, LabelConfig
from negflax.data import features
from negflax.data.batch import Batch
from negflax.data.schema import SPLITS
from negflax.data.sequences import Sequences

BLOCK = 2**20  # steps, or users, that are counted at a time
DELAY_MS = 60_000  # after the last event, where a list is asked for at no given time


class StreamBatches:
    """The training batches of some splits; batch i is a pure function of (config.seed, i).

    What is kept in memory grows with the users, not with the events.

    Attributes:
      steps_per_epoch: batches in a pass over all steps; batch i belongs to epoch
        i // steps_per_epoch.
      num_targets: label slots with a weight in an epoch.
      padding_share: share of an epoch's steps that are padding, all of them in its last batch.
    """

    def __init__(
        self,
        sequences: Sequences,
        config: BatchConfig,
        labels: LabelConfig,
        splits: tuple[str, ...],
        host: tuple[int, int] = (0, 1),
        requests: bool = False,
    ) -> None:
        """Finds the splits' events and counts the labels of their steps.

        Args:
          sequences: the data set.
          config: B, T and the seed of the order of users.
          labels: its horizon.
          splits: names of the splits to train on; they follow one another in time.
          host: (its number, how many there are): of the B rows each gets an equal slice.
          requests: with the times at which the targets were asked for (config.model.request).

        Raises:
          ValueError: the splits hold no event, other events lie between theirs, or the rows do not
            divide among the hosts.
        """
        index, count = host
        if config.rows % count:
            raise ValueError(f"config.batch.rows = {config.rows} does not divide by {count} hosts")
        self._sequences, self._config, self._horizon = sequences, config, labels.horizon
        self._requests = requests
        self._rows = range(index * config.rows // count, (index + 1) * config.rows // count)
        self._begin, self._length = _events_of(sequences, splits)
        self._num_steps = int(self._length.sum())
        if not self._num_steps:
            raise ValueError(f"no event is in the splits {splits}: nothing to train on")
        self.steps_per_epoch = math.ceil(self._num_steps / (config.rows * config.length))
        self.padding_share = 1 - self._num_steps / (
            self.steps_per_epoch * config.rows * config.length
        )
        self._epoch: tuple[int, np.ndarray, np.ndarray] | None = None
        self.num_targets = self._count_targets()

    @classmethod
    def of(
        cls,
        config: Config,
        sequences: Sequences,
        splits: tuple[str, ...] | None = None,
        host: tuple[int, int] = (0, 1),
    ) -> StreamBatches:
        """The batches of a run; by default on the splits that it trains on."""
        splits = config.train.splits if splits is None else splits
        requests = bool(config.model.request)
        return cls(sequences, config.batch, config.labels, splits, host, requests)

    def batch(self, i: int) -> Batch:
        """Batch i, or this host's rows of it.

        Row j covers positions [(b·B + j)·T, (b·B + j + 1)·T) of the epoch's stream, b the batch's
        place in its epoch; what lies beyond the stream is padding.
        """
        epoch, b = divmod(i, self.steps_per_epoch)
        length = self._config.length
        first = b * self._config.rows
        shape = len(self._rows), length
        event_N, is_first_N, label_NL = self._steps(
            epoch, (first + self._rows.start) * length, (first + self._rows.stop) * length
        )
        seen_BT = _placed(np.where(is_first_N, -1, event_N - 1), shape)
        label_ML = np.full((seen_BT.size, label_NL.shape[1]), -1, np.int64)
        label_ML[: len(event_N)] = label_NL
        request_BTR = None
        if self._requests:
            asked_ms = _times(self._sequences, _placed(event_N, shape))
            request_BTR = features.request_codes(asked_ms, _times(self._sequences, seen_BT))
        return _gather(self._sequences, seen_BT, label_ML, request_BTR)

    def targets(self, i: int) -> np.ndarray:
        """(rows, T) int64 event that each step of batch i predicts, −1 in the padding."""
        epoch, b = divmod(i, self.steps_per_epoch)
        length, first = self._config.length, b * self._config.rows
        event_N, *_ = self._steps(
            epoch, (first + self._rows.start) * length, (first + self._rows.stop) * length
        )
        return _placed(event_N, (len(self._rows), length))

    def _steps(self, epoch: int, start: int, stop: int) -> tuple[np.ndarray, ...]:
        """Of the steps at these positions: (target event, is a user's first, label events (N, L)).

        Positions beyond the stream have no step. A user's events are neighbours, in the files and
        in the stream, so the steps are a few runs of events.
        """
        order_U, start_U = self._order(epoch)
        ahead = self._horizon - 1  # the labels of the last step may lie so far beyond it
        end = min(stop + ahead, self._num_steps)
        if start >= end:
            return np.zeros(0, np.int64), np.zeros(0, bool), np.zeros((0, min(2, 1 + ahead)), int)
        low, high = np.searchsorted(start_U, [start, end - 1], side="right") - [1, 0]
        user_R, start_R = order_U[low:high], start_U[low:high]
        run_N = np.repeat(
            np.arange(high - low), np.diff(np.clip(np.append(start_R, end), start, end))
        )
        step_N = np.arange(start, end) - start_R[run_N]
        event_N = self._begin[user_R][run_N] + step_N
        num = max(min(stop, self._num_steps) - start, 0)
        label_NL = self._labels(event_N, run_N, num)
        return event_N[:num], step_N[:num] == 0, label_NL

    def _labels(self, event_N: np.ndarray, run_N: np.ndarray, num: int) -> np.ndarray:
        """Event index of the labels of the first `num` steps, -1 = absent (num, L)."""
        positive_N = self._sequences.positive_weight_E[event_N] > 0
        negative_N = self._sequences.negative_weight_E[event_N] > 0
        if self._horizon == 1:
            return np.where(positive_N | negative_N, event_N, -1)[:, None]
        here, total = np.arange(num), len(event_N)
        slots = []
        for wanted_N in (positive_N, negative_N):
            next_N = np.minimum.accumulate(np.where(wanted_N, np.arange(total), total)[::-1])[::-1]
            found = np.minimum(next_N[:num], total - 1)
            near = (next_N[:num] < np.minimum(here + self._horizon, total)) & (
                run_N[found] == run_N[:num]
            )
            slots.append(np.where(near, event_N[found], -1))
        return np.stack(slots, axis=1)

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

    def _count_targets(self) -> int:
        """Labels of all steps, a block at a time."""
        return sum(
            int(np.count_nonzero(self._steps(0, start, start + BLOCK)[2] >= 0))
            for start in range(0, self._num_steps, BLOCK)
        )


def _events_of(sequences: Sequences, splits: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(first event, number of events) of each user with events in the splits, int64 (U,).

    A user's splits follow one another (Sequences.split_E), so these events are neighbours.
    """
    codes = [SPLITS.index(split) for split in splits]
    before_U, chosen_U = (
        _count_per_user(sequences, wanted)
        for wanted in (np.arange(3) < min(codes), np.isin(np.arange(3), codes))
    )
    within_U = _count_per_user(
        sequences, (np.arange(3) >= min(codes)) & (np.arange(3) <= max(codes))
    )
    if np.any(within_U != chosen_U):
        raise ValueError(f"the splits {splits} leave out a split between them: name it as well")
    some = chosen_U > 0
    return (sequences.offsets_U1[:-1] + before_U)[some], chosen_U[some]


def _count_per_user(sequences: Sequences, wanted: np.ndarray) -> np.ndarray:
    """How many of each user's events have a split code c with wanted[c], int64 (U,)."""
    offsets, count_U = sequences.offsets_U1, []
    for user in range(0, len(offsets) - 1, BLOCK):
        edge = offsets[user : user + BLOCK + 1]
        chosen = wanted[sequences.split_E[edge[0] : edge[-1]]]
        count_U.append(np.diff(np.append(0, np.cumsum(chosen))[edge - edge[0]]))
    return np.concatenate(count_U)


def history_batch(
    sequences: Sequences,
    end_R: np.ndarray,
    user_R: np.ndarray,
    length: int,
    at_R: np.ndarray | None = None,
) -> Batch:
    """Histories of R queries, right-aligned: the state after the last column answers the query.

    A history of fewer than T events is preceded by its start step, and that by padding; a longer
    one is its newest T events, as if a row were cut there.

    Args:
      sequences: the data set.
      end_R: int64 index, over all events, one after the last event that the query may see.
      user_R: index of the user in sequences.user_ids.
      length: T.
      at_R: int64 milliseconds of the queries, -1 = unknown. None: each one's user asks when the
        log says that the user came back, at the time of the event end_R, of which nothing else is
        read; or, if there is none, a minute after the last event.

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
    before_RT = _times(sequences, seen_RT)
    if at_R is None:
        at_R = _next_times(sequences, end_R, user_R, before_RT[:, -1])
    next_RT = np.concatenate([before_RT[:, 1:], np.asarray(at_R, np.int64)[:, None]], axis=1)
    request_RTR = features.request_codes(next_RT, before_RT)
    return _gather(sequences, seen_RT, np.full((seen_RT.size, 1), -1), request_RTR)


def asked_after(last_ms: np.ndarray) -> np.ndarray:
    """Times of requests at no given time, by those of the users' last events, -1 = unknown."""
    return np.where(last_ms >= 0, last_ms + DELAY_MS, -1)


def _placed(event_N: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Events in the places of a batch, −1 behind the last one."""
    event_BT = np.full(shape, -1, np.int64)
    event_BT.ravel()[: len(event_N)] = event_N
    return event_BT


def _next_times(
    sequences: Sequences, end_R: np.ndarray, user_R: np.ndarray, last_R: np.ndarray
) -> np.ndarray:
    there_R = end_R < sequences.offsets_U1[user_R + 1]
    return np.where(there_R, _times(sequences, np.where(there_R, end_R, -1)), asked_after(last_R))


def _times(sequences: Sequences, event: np.ndarray) -> np.ndarray:
    """Times of events, -1 where the event is -1 or its time unknown."""
    if not len(sequences.time_E):
        return np.full(event.shape, -1, np.int64)
    return np.where(event < 0, -1, sequences.time_E[np.maximum(event, 0)])


def _gather(
    sequences: Sequences,
    seen_BT: np.ndarray,
    label_NL: np.ndarray,
    request_BTR: np.ndarray | None,
) -> Batch:
    """The batch whose steps read the events seen_BT and predict label_NL (-1 = none)."""
    label_BTL = label_NL.reshape(*seen_BT.shape, -1)
    unseen_BT, absent_BTL = seen_BT < 0, label_BTL < 0
    # Few places are empty: reading event 0 there and overwriting it costs less than a mask.
    seen_BT, label_BTL = np.maximum(seen_BT, 0), np.maximum(label_BTL, 0)

    def read(column_E: np.ndarray | None) -> np.ndarray:
        if column_E is None or not len(column_E):  # no one has an event: all are newcomers
            return np.zeros(seen_BT.shape, np.int32)
        value_BT = column_E[seen_BT].astype(np.int32)
        value_BT[unseen_BT] = 0
        return value_BT

    def labels(column_E: np.ndarray) -> np.ndarray:
        if not len(column_E):
            return np.zeros(label_BTL.shape, column_E.dtype)
        value_BTL = column_E[label_BTL]
        value_BTL[absent_BTL] = 0
        return value_BTL

    item_BT = input_BT = read(sequences.item_E)
    if sequences.bucket_E is not None:
        input_BT = item_BT + read(sequences.bucket_E)  # one of the two is 0
    reset_BT = unseen_BT.copy()
    reset_BT[:, 0] = True
    return Batch(
        item_ids_BT=input_BT,
        dislike_BT=read(sequences.dislike_E),
        dwell_BT=read(sequences.dwell_E),
        watch_ratio_BT=read(sequences.watch_ratio_E),
        gap_BT=read(sequences.gap_E),
        surface_BT=read(sequences.surface_E),
        dismissal_BT=read(sequences.dismissal_E),
        creator_BT=sequences.catalogue.creator_V[item_BT],
        cluster_BT=sequences.catalogue.clusters_VC[item_BT, 0],
        reset_BT=reset_BT,
        label_ids_BTL=labels(sequences.item_E),
        positive_weight_BTL=labels(sequences.positive_weight_E),
        negative_weight_BTL=labels(sequences.negative_weight_E),
        request_BTR=request_BTR,
    )
