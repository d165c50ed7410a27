"""A trained run as a recommender: events in, lists out, for many users or for one in a session.

Shapes: U users, R users scored at a time, T history steps, V catalogue rows, K list length.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa
from jax.sharding import Mesh

from negflax.calibration import load_calibrated, parameters_fingerprint
from negflax.calibration.stored_calibration import to_json
from negflax.config import MeshConfig
from negflax.data import DataError, Sequences, history_batch
from negflax.data.rules import asked
from negflax.data.tabular import Data, read_histories
from negflax.data.times import request_ms
from negflax.mesh import make_mesh
from negflax.serve.encoding import Encoding, user_histories
from negflax.serve.list_rules import ListRules, rules_of
from negflax.serve.list_table import list_table
from negflax.serve.lists import Lists, UserList, power_of_two
from negflax.serve.one_event import codes_of
from negflax.serve.scoring import check_finite
from negflax.serve.session import Session
from negflax.serve.session_bytes import StateError
from negflax.train.restore import Trained


class TrainedRecommender:
    """Lists from one checkpoint; keep it and ask often, as the first lists wait for a compiler.

    It may be used by many threads.

    Attributes:
      trained: the checkpoint with its config, catalogue and model.
      history: newest events of a user that `recommend` reads.
      users_at_a_time: users that are scored together at most.
      lists: the search.
      encoding: the encoder.
    """

    def __init__(self, trained: Trained, history: int = 100, users_at_a_time: int = 256):
        """What `negflax.calibration.load_calibrated` gives; `load` does both.

        Raises:
          ModelError: a table has a value that is not finite.
        """
        check_finite(trained)
        self.trained, self.history, self.users_at_a_time = trained, history, users_at_a_time
        self.lists = Lists(trained)
        self.encoding = Encoding(trained, self.lists.tables)

    @classmethod
    def load(
        cls,
        workdir: str | Path,
        checkpoint: str = "best",
        mesh: Mesh | None = None,
        **settings: int,
    ) -> TrainedRecommender:
        """Loads a run.

        Args:
          workdir: its folder.
          checkpoint: `best`, `latest` or a step.
          mesh: devices to serve from, of any number; all of the machine's by default.
          **settings: `history` and `users_at_a_time`, see the class.

        Raises:
          CheckpointError: there is no such run or checkpoint.
        """
        if mesh is None:
            mesh = make_mesh(MeshConfig(), jax.devices())
        return cls(load_calibrated(workdir, checkpoint, mesh), **settings)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Names the parameters: equal for recommenders that give the same lists."""
        found, calibration = parameters_fingerprint(self.trained), self.trained.calibration
        if calibration is None:
            return found
        text = found + json.dumps(to_json(calibration) | {"report": None}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def session(
        self,
        user: int | str | None = None,
        *,
        events: Data | None = None,
        state: bytes | None = None,
    ) -> Session:
        """Opens a session: of a newcomer, or one that goes on.

        Args:
          user: whose it is; with `state`, of whom the state has to be.
          events: an event log with the user's history, all of which is read; without `user` it must
            hold one user alone.
          state: of `Session.to_bytes`, to go on from there, without `events`.

        Raises:
          DataError: unusable events, or a log of several users.
          StateError: bytes that are no state of this checkpoint or of this user.
        """
        if isinstance(user, np.generic):
            user = user.item()
        session = Session(self, user)
        if state is not None:
            return self._restored(session, state, events)
        if events is None:
            return session
        histories = read_histories(events, self.trained.config, self.trained.catalogue)
        place = _place_of(user, histories)
        if place is None:
            return session  # without an event in the log: a newcomer
        start, end = histories.offsets_U1[place : place + 2]
        events_n = int(end - start)
        session.user = histories.user_ids[place : place + 1].tolist()[0]  # as a Python object
        session.unknown = int(histories.unknown_U[place])
        if not events_n:
            return session
        user_1 = np.array([place])
        batch = history_batch(histories, np.array([end]), user_1, events_n)
        codes_nF = codes_of(batch, 0, events_n)
        time_ms = int(histories.time_E[end - 1])
        (user_history,) = user_histories(histories, user_1, counted=False)  # the session counts
        return session.start_from(codes_nF, user_history, time_ms)

    def _restored(self, session: Session, state: bytes, events: Data | None) -> Session:
        """The session at a state, if that is of its user."""
        if events is not None:
            raise StateError(
                "a session starts from events or from a state, not from both: add later events to "
                "it one by one"
            )
        wanted = session.user
        session.restore(state)
        if wanted is not None and session.user is not None and str(wanted) != str(session.user):
            raise StateError(f"the state is of user {session.user!r}, and not of {wanted!r}")
        if session.user is None:
            session.user = wanted
        return session

    @functools.cached_property
    def rule_signals(self) -> frozenset[str]:
        """Columns that the run's label rules name, which an event may have like a log."""
        return frozenset(asked(self.trained.config.labels))

    def recommend(
        self,
        events: Data,
        k: int = 10,
        *,
        name: str = "",
        at: Any = None,
        explain: bool = False,
        progress: Callable[[int, int], Any] | None = None,
        **rules: Any,
    ) -> tuple[pa.Table, dict[str, Any]]:
        """The K best items for every user of an event log, by the newest events of each.

        An item that the run has not seen in training says nothing, unless the run has
        `data.hash_buckets`: its events are left out. They are counted either way. A user who is
        left without events gets the list of a newcomer.

        Args:
          events: a file or folder, a pyarrow.Table or any object with `__arrow_c_stream__`, with
            the columns of the training log (a missing feedback column counts as unknown).
          k: list length.
          name: of the log, for error messages; by default its path, or `events`.
          at: time of the request, as for `Run.recommend`.
          explain: with `p`, the probability over the catalogue, and with the better items that a
            rule left out: their `rank` is null and `reason` says why.
          progress: called with (users done, users) after every block of users.
          **rules: what is left out, by default `exclude_seen=True` (list_rules.py); a user for whom
            too few items are left gets a shorter list.

        Returns:
          (user_id, rank from 1, item_id, score float32 and, where the catalogue has them, title and
          clusters, by user and rank; counts: `users`, `users_without_history`, `events`,
          `events_on_unknown_items`, `short_lists`, `repairs`).

        Raises:
          ConfigError: K is below 1 or above the number of items, or an unknown rule.
          DataError: unusable events; it names column and row.
          ModelError: a score is not finite.
        """
        chosen = rules_of(rules)
        self.lists.check_k(k)
        histories = read_histories(events, self.trained.config, self.trained.catalogue, name)
        known_ms = int(histories.time_E.max(initial=-1))
        at_ms = None if at is None else request_ms(at, known_ms)
        found = self._blocks(histories, k, chosen, explain, progress, at_ms)
        short = sum(len(one.rows) < k for one in found)
        result = list_table(found, self.trained.catalogue, histories.user_ids, explain)
        return result, histories.report | {"short_lists": short}

    def _blocks(
        self,
        histories: Sequences,
        k: int,
        rules: ListRules,
        explain: bool,
        progress: Callable[[int, int], Any] | None,
        at_ms: int | None,
    ) -> list[UserList]:
        """The lists of all users, block by block of one size."""
        users, found = len(histories.user_ids), []
        size = min(self.users_at_a_time, power_of_two(users))
        for start in range(0, users, size):
            stop = min(start + size, users)
            user_R = np.minimum(np.arange(start, start + size), users - 1)
            end_R = histories.offsets_U1[user_R + 1]
            states_RD = self.encoding.of_histories(histories, user_R, end_R, self.history, at_ms)
            counted = self.trained.calibration is not None
            had = user_histories(histories, user_R[: stop - start], counted=counted)
            found += self.lists.of_states(states_RD, had, k, rules, explain)
            if progress is not None:
                progress(stop, users)
        return found


def _place_of(user: int | str | None, histories: Sequences) -> int | None:
    """Which user of a log a session is for; None: that user has no event there.

    Raises:
      DataError: the log has several users, and none is named.
    """
    ids = [str(one) for one in histories.user_ids.tolist()]
    if user is not None:
        return ids.index(str(user)) if str(user) in ids else None
    if len(ids) > 1:
        name = histories.report["source"]
        raise DataError(f"{name}: there are {len(ids)} users: name the user of the session, user=…")
    return 0 if ids else None
