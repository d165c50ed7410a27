"""Events → user states while serving: a whole history at once, or one event after the other.

Shapes: R users, n events of a user, D width.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from negflax.calibration.kind_counts import UserCounts, counts_of, kind_of_items, split_by_user
from negflax.config.feedback_calibration import KINDS
from negflax.data import Sequences, history_batch
from negflax.serve.list_rules import UserHistory
from negflax.serve.lists import SMALLEST, power_of_two
from negflax.serve.one_event import CODES, batch_of
from negflax.serve.scoring import request_function, step_function
from negflax.train.restore import Trained

_SAME = 1e-4  # an encoder that goes on gives the states of the whole history up to this


class Progress(NamedTuple):
    """How far the events of a user were read.

    Attributes:
      state_1D: the user's state, without the time of a request.
      last: what the encoder needs to go on; None where it cannot.
    """

    state_1D: jax.Array
    last: Any


class Encoding:
    """The encoder of one checkpoint, in few shapes.

    Attributes:
      trained: the checkpoint.
    """

    def __init__(self, trained: Trained, tables: dict[str, Any]):
        """The checkpoint, and its tables as serving reads them."""
        self.trained, self._tables = trained, tables
        self._read = step_function(trained.model, trained.mesh)

    def __call__(self, batch: Any, last: Any = None) -> tuple[jax.Array, Any]:
        """(states after the batch's last steps (R, D), what the encoder carries)."""
        return self._read(self.trained.state["dense"], self._tables, batch, last)

    def of_histories(
        self,
        histories: Sequences,
        user_R: np.ndarray,
        end_R: np.ndarray,
        history: int,
        at_ms: int | None = None,
    ) -> jax.Array:
        """(R, D) states by the newest `history` events; steps are a power of two, or `history`.

        A row with room for the start of its user gives the same state however long it is. `at_ms`
        is the time of the request; None: see `history_batch`.
        """
        longest = int((end_R - histories.offsets_U1[user_R]).max(initial=0))
        steps = min(history, power_of_two(longest + 1, SMALLEST))
        at_R = None if at_ms is None else np.full(len(user_R), at_ms, np.int64)
        batch = history_batch(histories, end_R, user_R, steps, at_R)
        return self.at_request(self(batch)[0], batch.request_BTR[:, -1])

    def at_request(self, states_RD: jax.Array, codes_R3: np.ndarray) -> jax.Array:
        """The states of users who ask at the times of the codes (features.request_codes)."""
        if not self.trained.config.model.request:
            return states_RD
        function = request_function(self.trained.model)
        return function(self.trained.state["dense"], states_RD, codes_R3)

    @functools.cached_property
    def newcomer(self) -> Progress:
        """A user without events."""
        return self.whole(np.zeros((0, len(CODES)), np.int32))

    @functools.cached_property
    def goes_on(self) -> bool:
        """Whether the encoder can read one event more without the ones before.

        Tried out once, as an encoder of one's own may promise it and not do it.
        """
        if not jax.tree.leaves(self.newcomer.last):
            return False
        codes_nF = np.zeros((3, len(CODES)), np.int32)
        codes_nF[:, 0] = 1 + np.arange(3) % (self.trained.catalogue.num_rows - 1)
        codes_nF[:, CODES.index("dislike")] = (1, 2, 0)
        step = self.newcomer
        for one in codes_nF:
            step = Progress(*self(batch_of(one[None], 1), step.last))
        whole_1D = np.asarray(self.whole(codes_nF).state_1D)
        scale = max(1.0, float(np.abs(whole_1D).max()))
        return bool(np.abs(np.asarray(step.state_1D) - whole_1D).max() <= _SAME * scale)

    def whole(self, codes_nF: np.ndarray) -> Progress:
        """All events of a user from the start on."""
        return Progress(*self(batch_of(codes_nF, power_of_two(len(codes_nF) + 1, SMALLEST))))

    def one_more(self, before: Progress, codes_F: np.ndarray) -> Progress:
        """The user after one event more, for an encoder that `goes_on`."""
        return Progress(*self(batch_of(codes_F[None], 1), before.last))


def user_histories(histories: Sequences, user_R: np.ndarray, *, counted: bool) -> list[UserHistory]:
    """What users have had and disliked; with `counted` their feedback by cluster and creator."""
    end_R, found = histories.offsets_U1[user_R + 1], []
    counts_R: list[UserCounts | None] = [None] * len(user_R)
    if counted and len(user_R):
        counts_R = split_by_user(
            {
                kind: counts_of(histories, user_R, end_R, kind_of_items(histories.catalogue, kind))
                for kind in KINDS
            }
        )
    for user, counts in zip(user_R, counts_R, strict=True):
        events = slice(histories.offsets_U1[user], histories.offsets_U1[user + 1])
        item_n = histories.item_E[events]
        said_no = (histories.dislike_E[events] == 2) | (histories.dismissal_E[events] == 2)
        known = item_n > 0
        found.append(UserHistory(np.unique(item_n[known]), item_n[known & said_no], counts))
    return found
