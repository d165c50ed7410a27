"""What label rules can ask of an event: the log's own columns, and what follows from them.

`dwell_s` and `duration_s` are dwell_ms and duration_ms in seconds, `watch_ratio` is their quotient,
unknown where the duration is unknown or 0; `skip` follows from config.labels.skip where that is
given. Null is NaN here, and NaN fails every condition: unknown is not 0.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from negflax.config import ConfigError
from negflax.data.columns import flat, floats, is_number, is_text
from negflax.data.rules import Bucket, Condition
from negflax.data.schema import NOT_SIGNALS

_COMPARE = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}


class Signals:
    """The signals of E events by name, each computed when it is first asked for."""

    def __init__(
        self, events: pa.Table, items: pa.Table | None = None, skip: Iterable[Bucket] = ()
    ):
        """Opens a validated log.

        Args:
          events: the log.
          items: its validated item table, whose durations fill in for those that the events lack.
          skip: what a skip is; empty: what the log's own column `skip` says.
        """
        self._events, self._items, self._skip = events, items, tuple(skip)
        self._kinds = {
            field.name: kind
            for field in events.schema
            if field.name not in NOT_SIGNALS and (kind := _kind(field.type))
        }
        if items is not None and "duration_ms" in items.column_names:
            self._kinds.setdefault("duration_ms", "number")
        self._derived = self._derivations()
        self._values: dict[str, np.ndarray] = {}

    def names(self) -> tuple[str, ...]:
        """Of the log's own signals."""
        return tuple(self._kinds)

    def kind(self, name: str) -> str:
        """`number`, `bit` or `text`.

        Raises:
          ConfigError: there is no such signal; the message lists those that there are.
        """
        if name in self._derived:
            return "bit" if name == "skip" else "number"
        if name in self._kinds:
            return self._kinds[name]
        # Not `like` for `dislike`: a rule of the other sign.
        near = difflib.get_close_matches(name, [*self._kinds, *self._derived], n=1, cutoff=0.75)
        hint = f" (did you mean `{near[0]}`?)" if near else ""
        raise ConfigError(
            f"config.labels: the log has no signal `{name}`; it has: {', '.join(self._kinds)}{hint}"
        )

    def __contains__(self, name: str) -> bool:
        """Whether there is such a signal, of the log's own or derived."""
        return name in self._derived or name in self._kinds

    def __getitem__(self, name: str) -> np.ndarray:
        """float64 (E,) of a signal that is no text, NaN where it is null."""
        if name not in self._values:
            kind = self.kind(name)
            if kind == "text":
                raise ConfigError(f"config.labels: `{name}` is text, not a number")
            make = self._derived.get(name)
            self._values[name] = make(self) if make else self._own(name)
        return self._values[name]

    def known(self, name: str) -> np.ndarray:
        """Where a signal is not null, bool (E,)."""
        if self.kind(name) == "text":
            return flat(self._events[name]).is_valid().to_numpy(zero_copy_only=False)
        return ~np.isnan(self[name])

    def all_hold(self, conditions: Iterable[Condition]) -> np.ndarray:
        """Where every one of the conditions holds, bool (E,)."""
        return np.logical_and.reduce([self.holds(condition) for condition in conditions])

    def holds(self, condition: Condition) -> np.ndarray:
        """Where a condition holds, bool (E,); nowhere where its signal is null.

        Raises:
          ConfigError: there is no such signal, or it cannot be compared in this way.
        """
        name, value, kind = condition.signal, condition.value, self.kind(condition.signal)
        if (kind == "text") != isinstance(value, str):
            example = f"{name} == spam" if kind == "text" else f"{name} >= 4"
            raise ConfigError(
                f"config.labels: `{name}` is {'text' if kind == 'text' else 'not text'}; compare "
                f"it, as in `{example}`"
            )
        if kind == "text":
            same = pc.fill_null(pc.equal(flat(self._events[name]), value), False)
            return same.to_numpy(zero_copy_only=False)
        if condition.op is not None:
            return _COMPARE[condition.op](self[name], value)
        if kind == "number":
            raise ConfigError(
                f"config.labels: `{name}` is a number; compare it, as in `{name} >= 4`"
            )
        return self[name] == 1

    def _derivations(self) -> dict[str, Callable[[Signals], np.ndarray]]:
        """Name → how it follows from the log; a column of that name wins over all but `skip`.

        Functions of the signals, not of their own `self`: a circle of references would keep the
        events of a large log in memory.
        """
        found: dict[str, Callable[[Signals], np.ndarray]] = {}
        if "dwell_ms" in self._kinds:
            found["dwell_s"] = lambda signals: signals["dwell_ms"] / 1000
        if "duration_ms" in self._kinds:
            found["duration_s"] = lambda signals: signals["duration_ms"] / 1000
        if {"dwell_ms", "duration_ms"} <= set(self._kinds):
            found["watch_ratio"] = Signals._watch_ratio
        found = {name: make for name, make in found.items() if name not in self._kinds}
        return found | ({"skip": Signals._skips} if self._skip else {})

    def _own(self, name: str) -> np.ndarray:
        if name != "duration_ms" or self._items is None:
            return floats(self._events[name])
        value_E = np.full(self._events.num_rows, np.nan)
        if name in self._events.column_names:
            value_E = floats(self._events[name])
        if name in self._items.column_names:
            ids = flat(self._items["item_id"])
            place = pc.index_in(flat(self._events["item_id"]), value_set=ids)
            value_E = np.where(
                np.isnan(value_E), floats(flat(self._items[name]).take(place)), value_E
            )
        return value_E

    def _watch_ratio(self) -> np.ndarray:
        duration_E = self["duration_ms"]
        unknown_E = np.full(len(duration_E), np.nan)
        return np.divide(self["dwell_ms"], duration_E, out=unknown_E, where=duration_E > 0)

    def _skips(self) -> np.ndarray:
        """1 skip, 0 none; NaN where no bucket has the duration or a signal that it asks is null."""
        value_E = np.full(self._events.num_rows, np.nan)
        for bucket in self._skip:
            inside_E = (self["duration_s"] >= bucket.low_s) & (self["duration_s"] < bucket.high_s)
            for condition in bucket.conditions:
                if condition.signal == "skip":
                    raise ConfigError("config.labels.skip: `skip` cannot be defined by itself")
                inside_E &= self.known(condition.signal)
            value_E[inside_E] = self.all_hold(bucket.conditions)[inside_E]
        return value_E


def _kind(kind: pa.DataType) -> str | None:
    if pa.types.is_boolean(kind):
        return "bit"
    return "number" if is_number(kind) else "text" if is_text(kind) else None
