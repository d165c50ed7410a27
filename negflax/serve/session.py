"""A user who is being served: every event changes the state, and the next list.

Shapes: n events, D width.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pyarrow as pa

from negflax.calibration import UserCounts
from negflax.data import features
from negflax.data.batches import asked_after
from negflax.data.times import request_ms
from negflax.serve.encoding import Progress
from negflax.serve.list_rules import UserHistory, rules_of
from negflax.serve.list_table import list_table
from negflax.serve.one_event import CODES, encode_event
from negflax.serve.session_bytes import StateError, pack, unpack

if TYPE_CHECKING:
    from negflax.serve.trained import TrainedRecommender


class Session:
    """One user's state at one checkpoint; `Run.session` opens it. May be used by many threads.

    Events are read in the order of the calls, by one step of the encoder each. Encoders that cannot
    go on from a state (negflax/model/encoders/__init__.py) read the whole history again.

    Attributes:
      user: whose it is, an integer, a text or None.
      events: how many events were read.
      unknown: how many were not, as the model does not know their items.
    """

    def __init__(self, recommender: TrainedRecommender, user: int | str | None = None):
        """A newcomer; `TrainedRecommender.session` also continues."""
        self._of, self._lock = recommender, threading.Lock()
        self.user, self.events, self.unknown, self._time_ms = user, 0, 0, -1
        self._progress = recommender.encoding.newcomer
        self._codes_nF = np.zeros((0, len(CODES)), np.int32)
        self._seen: dict[int, None] = {}  # in the order of the events
        self._disliked: list[int] = []
        self._counts = UserCounts()

    def add(self, event: Mapping[str, Any]) -> bool:
        """Reads an event.

        Args:
          event: `item_id` and any of the columns of an event log, such as `dislike`, `dwell_ms` and
            `timestamp_ms`; what is missing is unknown.

        Returns:
          Whether the model knows the item; otherwise the event says nothing, but is counted.

        Raises:
          EventError: a field that is unknown or holds what it cannot; it has the name as `field`.
        """
        with self._lock:
            catalogue = self._of.trained.catalogue
            codes_F, row, time_ms = encode_event(
                event, catalogue, self._time_ms, self._of.rule_signals
            )
            if codes_F is None:
                self.unknown += 1
                return False
            self._read(codes_F[None])
            self._note(row, bool(event.get("dislike")) or bool(event.get("dismissal")), time_ms)
        return True

    def recommend(
        self, k: int = 10, *, at: Any = None, explain: bool = False, **rules: Any
    ) -> pa.Table:
        """The k best items now.

        Args:
          k: length of the list.
          at: time of the request, as for `Run.recommend`.
          explain: with `p`, the probability over the catalogue, and with the better items that a
            rule left out: their `rank` is null and `reason` says why.
          **rules: what is left out (negflax/serve/list_rules.py).

        Returns:
          rank from 1, item_id, score and, where known, title and clusters.

        Raises:
          ConfigError: k is below 1 or above the number of items, or an unknown rule.
          ModelError: a score is not finite.
        """
        state_1D, user = self.now(at)
        lists = self._of.lists.of_states(state_1D, [user], k, rules_of(rules), explain)
        return list_table(lists, self._of.trained.catalogue, explain=explain)

    def now(self, at: Any = None) -> tuple[np.ndarray, UserHistory]:
        """(state (1, D), what the user has had), for lists of several sessions at once."""
        with self._lock:
            user = UserHistory(
                np.array(list(self._seen), np.int32),
                np.array(self._disliked, int),
                self._counts.copy(),
            )
            return np.asarray(self._state(at)), user

    def _state(self, at: Any) -> Any:
        last_1 = np.array([self._time_ms])
        at_1 = asked_after(last_1) if at is None else np.array([request_ms(at, self._time_ms)])
        codes_13 = features.request_codes(at_1, last_1)
        return self._of.encoding.at_request(self._progress.state_1D, codes_13)

    @property
    def state(self) -> np.ndarray:
        """(D,) the user state, float32, of a request at no given time."""
        return np.asarray(self._state(None), np.float32)[0]

    def to_bytes(self) -> bytes:
        """Everything that the session knows; `Run.session(state=…)` goes on from it."""
        with self._lock:
            leaves = jax.tree.leaves(self._progress)
            arrays = {f"encoder/{i}": np.asarray(x) for i, x in enumerate(leaves)}
            arrays["codes"] = self._codes_nF
            arrays["seen"] = np.array(list(self._seen), np.int32)
            arrays["disliked"] = np.array(self._disliked, np.int32)
            arrays |= {f"counts/{kind}": x for kind, x in self._counts.arrays().items()}
            fields = {name: getattr(self, name) for name in ("user", "events", "unknown")}
            return pack(self._of.fingerprint, fields | {"time_ms": self._time_ms}, arrays)

    def restore(self, data: bytes) -> Session:
        """Goes on from what `to_bytes` gave, and returns the session.

        Raises:
          StateError: the bytes are no state, are damaged, or are of another version or model.
        """
        fields, arrays = unpack(data, self._of.fingerprint)
        shapes, tree = jax.tree.flatten(self._of.encoding.newcomer)
        leaves = [arrays.get(f"encoder/{i}") for i in range(len(shapes))]
        for found, wanted in zip(leaves, shapes, strict=True):
            if found is None or found.shape != wanted.shape or found.dtype != wanted.dtype:
                raise StateError(
                    "the session state has no carry of this encoder: start the session again from "
                    "the events"
                )
            if not np.isfinite(found).all():
                raise StateError(
                    "the session state has NaN or infinity: start the session again from the events"
                )
        with self._lock:
            self._progress = Progress(*jax.tree.unflatten(tree, leaves))
            self.user, self.events, self.unknown, self._time_ms = (
                fields[name] for name in ("user", "events", "unknown", "time_ms")
            )
            self._codes_nF = arrays["codes"]
            self._seen = dict.fromkeys(arrays["seen"].tolist())
            self._disliked = arrays["disliked"].tolist()
            counts = {kind: arrays[f"counts/{kind}"] for kind in self._counts.by_kind}
            self._counts = UserCounts.of_arrays(self.events, counts)
        return self

    def start_from(self, codes_nF: np.ndarray, user: UserHistory, time_ms: int) -> Session:
        """A newcomer reads a whole encoded history at once."""
        with self._lock:
            self._read(codes_nF)
            self._seen = dict.fromkeys(user.seen.tolist())
            self._disliked = user.disliked.tolist()
            self._time_ms = time_ms
        return self

    def _read(self, codes_nF: np.ndarray) -> None:
        encoding, before = self._of.encoding, self.events
        self.events += len(codes_nF)
        for codes_F in codes_nF.tolist():
            self._counts.add(dict(zip(CODES, codes_F, strict=True)))
        if not encoding.goes_on:
            self._codes_nF = np.concatenate([self._codes_nF, codes_nF])
            self._progress = encoding.whole(self._codes_nF)
        elif not before:
            self._progress = encoding.whole(codes_nF)
        else:
            for codes_F in codes_nF:
                self._progress = encoding.one_more(self._progress, codes_F)

    def _note(self, row: int, disliked: bool, time_ms: int) -> None:
        self._time_ms = time_ms
        if row:
            self._seen[row] = None
            if disliked:
                self._disliked.append(row)
