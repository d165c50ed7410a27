"""Where the service keeps what it knows of users: in memory, in an SQLite file, or in Redis.

Of each user it keeps the newest events and the state of the encoder as bytes. The state belongs to
one checkpoint; the events say it to the next one.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import OrderedDict
from typing import Any

try:
    import redis
except ImportError:  # pip install 'negflax[redis]'
    redis = None

FAILURES = (sqlite3.Error, *([redis.RedisError] if redis else []))  # of a store in service
KEPT_EVENTS = 200  # of a user, the newest


class StoreError(ValueError):
    """A file or server that is no store."""


class MemoryStore:
    """The users asked for most recently, in this process alone."""

    def __init__(self, users: int = 100_000):
        """`users`: kept at most."""
        self._users, self._lock = users, threading.Lock()
        self._kept: OrderedDict[str, tuple[bytes, list[dict[str, Any]]]] = OrderedDict()

    def get(self, user: str) -> tuple[bytes, list[dict[str, Any]]] | None:
        """(state, events) of a user, if known."""
        with self._lock:
            found = self._kept.get(user)
            if found is not None:
                self._kept.move_to_end(user)
            return found

    def put(self, user: str, state: bytes, events: list[dict[str, Any]]) -> None:
        """Keeps them."""
        with self._lock:
            self._kept[user] = state, events[-KEPT_EVENTS:]
            self._kept.move_to_end(user)
            while len(self._kept) > self._users:
                self._kept.popitem(last=False)

    def close(self) -> None:
        """Nothing to close."""


class SqliteStore:
    """All users, in a file that survives the process."""

    def __init__(self, path: str):
        """Opens or creates the file."""
        self._lock = threading.Lock()
        self._file = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._file.execute("PRAGMA journal_mode=WAL")
        self._file.execute("PRAGMA synchronous=NORMAL")
        self._file.execute(
            "CREATE TABLE IF NOT EXISTS users (id TEXT PRIMARY KEY, state BLOB, events TEXT)"
        )

    def get(self, user: str) -> tuple[bytes, list[dict[str, Any]]] | None:
        """(state, events) of a user, if known."""
        with self._lock:
            row = self._file.execute(
                "SELECT state, events FROM users WHERE id = ?", (user,)
            ).fetchone()
        return None if row is None else (row[0], json.loads(row[1]))

    def put(self, user: str, state: bytes, events: list[dict[str, Any]]) -> None:
        """Keeps them."""
        text = json.dumps(events[-KEPT_EVENTS:])
        with self._lock:
            self._file.execute("REPLACE INTO users VALUES (?, ?, ?)", (user, state, text))

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._file.close()


class RedisStore:
    """All users, on a server that speaks Redis's protocol; several processes may share it."""

    def __init__(self, client: Any):
        """A `redis.Redis`."""
        self._client = client
        client.ping()

    def get(self, user: str) -> tuple[bytes, list[dict[str, Any]]] | None:
        """(state, events) of a user, if known."""
        state, events = self._client.hmget(f"negflax:{user}", "state", "events")
        return None if state is None or events is None else (state, json.loads(events))

    def put(self, user: str, state: bytes, events: list[dict[str, Any]]) -> None:
        """Keeps them, both or neither."""
        kept = {"state": state, "events": json.dumps(events[-KEPT_EVENTS:])}
        self._client.hset(f"negflax:{user}", mapping=kept)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()


def open_store(path: str) -> MemoryStore | SqliteStore | RedisStore:
    """In memory for "", a server for redis://…, otherwise the SQLite file.

    Raises:
      StoreError: the file or server cannot be used.
    """
    try:
        if path.startswith(("redis://", "rediss://", "unix://")):
            if redis is None:
                raise StoreError(f"--store={path} needs redis: pip install 'negflax[redis]'")
            return RedisStore(redis.Redis.from_url(path, socket_timeout=1.0))
        return SqliteStore(path) if path else MemoryStore()
    except FAILURES as error:
        raise StoreError(f"--store={path}: {error}; name another one") from error
