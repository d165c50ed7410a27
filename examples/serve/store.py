"""Where the service keeps what it knows of users: in memory, or in an SQLite file.

Of each user it keeps the newest events and the state of the encoder as bytes. The state belongs to
one checkpoint; the events say it to the next one.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import OrderedDict
from typing import Any

KEPT_EVENTS = 200  # of a user, the newest


class StoreError(ValueError):
    """A file that is no store."""


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


def open_store(path: str) -> MemoryStore | SqliteStore:
    """In memory for "", otherwise the SQLite file.

    Raises:
      StoreError: it is no SQLite file, or cannot be written.
    """
    try:
        return SqliteStore(path) if path else MemoryStore()
    except sqlite3.Error as error:
        raise StoreError(f"--store={path}: {error}; name another file") from error
