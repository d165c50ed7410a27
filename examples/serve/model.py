"""The model that the service answers by: loaded, warmed up, and replaced by a promoted one."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import negflax
from negflax.serve import ListRules, Session, StateError, TrainedRecommender
from negflax.serve.list_rules import UserHistory
from negflax.serve.list_table import list_table

BATCHES = (1, 4, 16, 32)  # users that are searched together; a batch is filled up to one of these
SEEN = (16, 64)  # excluded items that searches are compiled for beforehand


@dataclasses.dataclass(frozen=True)
class Loaded:
    """One checkpoint in service."""

    recommender: TrainedRecommender
    step: int
    source: Any  # what the folder looked like: another one is loaded when this changes


class Model:
    """Answers by the newest checkpoint of a folder; every request keeps the one it began with."""

    def __init__(self, workdir: str, lengths: tuple[int, ...] = (10,)):
        """Loads and warms up; `lengths`: of the lists that are compiled beforehand."""
        self._workdir, self._lengths = workdir, lengths
        self._lock, self.reloads, self.failed_reloads = threading.Lock(), 0, 0
        self.now = self._load()

    def reload_if_promoted(self) -> bool:
        """Loads another checkpoint if there is one; the old one answers until it is ready."""
        with self._lock:
            if self._source() == self.now.source:
                return False
            try:
                self.now = self._load()
                self.reloads += 1
            except Exception:  # half written, deleted: the old one stays
                logging.exception("the promoted checkpoint cannot be loaded")
                self.failed_reloads += 1
                self.now = dataclasses.replace(self.now, source=self._source())
                return False
            return True

    def session(self, loaded: Loaded, user: str, kept: Any) -> Session:
        """The user's session: from the state, or by the events where that is another model's."""
        session = loaded.recommender.session(user)
        if kept is None:
            return session
        state, events = kept
        try:
            return session.restore(state)
        except StateError:
            for event in events:
                session.add(event)
            return session

    def _source(self) -> Any:
        folder = os.path.realpath(self._workdir)  # launch.evaluate --follow moves the link `best`
        steps = sorted(path.name for path in Path(folder).glob("checkpoints/[0-9]*"))
        calibration = Path(folder) / "calibration.json"  # launch.calibrate may write it later
        written = calibration.stat().st_mtime_ns if calibration.exists() else None
        return folder, tuple(steps), written

    def _load(self) -> Loaded:
        source = self._source()
        run = negflax.load(source[0])
        found = Loaded(run.recommender, run.trained.step, source)
        for length in self._lengths:
            warm_up(found.recommender, min(length, run.catalogue.num_rows - 1))
        return found


def warm_up(recommender: TrainedRecommender, length: int) -> None:
    """Compiles what requests need, before the first of them waits for it."""
    session = recommender.session()
    item = recommender.trained.catalogue.item_ids[0].item()
    session.add({"item_id": item, "dislike": False})
    session.add({"item_id": item, "dislike": True})
    recommender.session(state=session.to_bytes())
    items = recommender.trained.catalogue.num_rows - 1
    for users in BATCHES:
        for seen in SEEN:
            rows = np.arange(1, 1 + min(seen, items))
            nobody = [UserHistory(rows, np.zeros(0, int))] * users
            states_RD = np.repeat(session.state[None], users, axis=0)
            recommender.lists.of_states(states_RD, nobody, length, ListRules())


@dataclasses.dataclass(frozen=True)
class Query:
    """What is asked alike by the requests of a batch."""

    loaded: Loaded = dataclasses.field(hash=False)
    k: int
    rules: ListRules
    explain: bool


def lists(query: Query, sessions: list[Session]) -> list[list[dict[str, Any]]]:
    """A list for each session, as rows."""
    recommender = query.loaded.recommender
    at = datetime.now(UTC) if recommender.trained.config.model.request else None
    asked = [session.now(at) for session in sessions]
    size = next(size for size in BATCHES if size >= len(asked))
    states_RD = np.concatenate([state_1D for state_1D, _ in asked])
    states_RD = np.concatenate([states_RD, np.repeat(states_RD[:1], size - len(asked), axis=0)])
    users = [user for _, user in asked]
    found = recommender.lists.of_states(states_RD, users, query.k, query.rules, query.explain)
    catalogue = recommender.trained.catalogue
    return [list_table([one], catalogue, explain=query.explain).to_pylist() for one in found]
