"""Rules on lists, as a serving layer has them: what is left out, and why.

Shapes: M items of a ranking, N recently disliked items.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections import Counter
from collections.abc import Mapping, Sequence, Sized
from typing import Any

import numpy as np

from negflax.calibration.kind_counts import UserCounts
from negflax.config import ConfigError
from negflax.data import Catalogue

SEEN = "the user has had it"
EXCLUDED = "excluded by the caller"
DISLIKED = "the user disliked it"
CREATOR = "its creator made what the user disliked"
NEAR = "near what the user disliked"
FULL_CREATOR = "the list has enough of its creator"
FULL_CLUSTER = "the list has enough of its cluster"
REMEMBERED = 256  # the most of a user's newest dislikes that `recent` may ask for


@dataclasses.dataclass(frozen=True)
class ListRules:
    """What is left out of a list. A dislike is an event with `dislike` or `dismissal`.

    Attributes:
      exclude_seen: items of the user's history.
      exclude: ids of further items; unknown ones are in no list anyway.
      drop_disliked: disliked items, also where seen ones stay.
      block_creators: all items of the creators of disliked ones.
      cap_per_creator: items of one creator in a list; 0: any number.
      cap_per_cluster: items of one cluster in a list; an item counts for each of its clusters.
      aversion: leave out items whose vectors have a cosine of at least this to one of the user's
        `recent` last disliked items; 0: off.
      recent: disliked items that `aversion` looks at, up to 256.
    """

    exclude_seen: bool = True
    exclude: Sequence[Any] = ()
    drop_disliked: bool = False
    block_creators: bool = False
    cap_per_creator: int = 0
    cap_per_cluster: int = 0
    aversion: float = 0.0
    recent: int = 8

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
          ConfigError: one makes no sense.
        """
        for name in ("exclude_seen", "drop_disliked", "block_creators"):
            if not isinstance(value := getattr(self, name), bool | np.bool_):
                raise ConfigError(f"{name} = {value!r}: give True or False")
        for name in ("cap_per_creator", "cap_per_cluster", "recent"):
            value = getattr(self, name)
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if not whole or value < 0:
                raise ConfigError(f"{name} = {value!r}: give a whole number of at least 0")
        if self.recent > REMEMBERED:
            raise ConfigError(f"recent = {self.recent}: give a number from 0 to {REMEMBERED}")
        number = isinstance(self.aversion, int | float | np.number)
        if not number or not 0 <= self.aversion <= 1:
            raise ConfigError(f"aversion = {self.aversion!r}: give a cosine from 0 (off) to 1")
        if isinstance(self.exclude, str | bytes) or not isinstance(self.exclude, Sized):
            raise ConfigError(f"exclude = {self.exclude!r}: give a list of item ids")

    @property
    def look_further(self) -> bool:
        """Whether a list needs more than its K best items and what is known to be excluded."""
        caps = self.cap_per_creator or self.cap_per_cluster
        return bool(self.block_creators or caps or self.aversion)


def rules_of(settings: Mapping[str, Any]) -> ListRules:
    """Rules from keyword arguments.

    Raises:
      ConfigError: an unknown name, or a number that makes no sense.
    """
    known = [field.name for field in dataclasses.fields(ListRules)]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
            raise ConfigError(f"recommend() has no rule {name!r}: {hint}")
    return ListRules(**settings)


@dataclasses.dataclass(frozen=True)
class UserHistory:
    """Whom a list is for.

    Attributes:
      seen: catalogue rows of the history.
      disliked: catalogue rows of disliked items, the newest last.
      counts: feedback by cluster and creator, for a calibration; None: not known.
    """

    seen: np.ndarray
    disliked: np.ndarray
    counts: UserCounts | None = None

    def recently_disliked(self, count: int) -> np.ndarray:
        """The last `count` different disliked rows, filled up with 0."""
        newest = list(dict.fromkeys(self.disliked[::-1].tolist()))[:count]
        return np.array(newest + [0] * (count - len(newest)), np.int32)


def excluded_rows(
    user: UserHistory, rules: ListRules, exclude_rows: np.ndarray
) -> list[tuple[np.ndarray, str]]:
    """The rows that no list of the user may have, with the reason; of several the last counts."""
    found = [(user.seen, SEEN)] if rules.exclude_seen else []
    if rules.drop_disliked:
        found.append((user.disliked, DISLIKED))
    return [*found, (exclude_rows, EXCLUDED)]


def walk(
    row_M: np.ndarray,
    near_M: np.ndarray,
    user: UserHistory,
    rules: ListRules,
    catalogue: Catalogue,
    excluded: Mapping[int, str],
    k: int,
) -> tuple[list[int], list[tuple[int, str]]]:
    """Goes down a ranking until K items are listed.

    Args:
      row_M: catalogue rows, the best first; 0 where the ranking has ended.
      near_M: whether the item is near what the user disliked.
      user: whom the list is for.
      rules: what is left out.
      catalogue: creators and clusters.
      excluded: row → why it is in no list.
      k: K.

    Returns:
      (places of the listed items; places of those that were left out before the last of them,
      and why).
    """
    blocked: set[int] = set()
    if rules.block_creators:
        blocked = set(catalogue.creator_V[user.disliked].tolist()) - {0}
    creators, clusters = Counter[int](), Counter[int]()
    listed: list[int] = []
    left_out: list[tuple[int, str]] = []
    for place, row in enumerate(row_M.tolist()):
        if len(listed) == k or not row:
            break
        creator = int(catalogue.creator_V[row])
        of_item = [c for c in catalogue.clusters_VC[row].tolist() if c]
        why = excluded.get(row)
        if why is None and creator in blocked:
            why = CREATOR
        if why is None and near_M[place]:
            why = NEAR
        if why is None and creator and 0 < rules.cap_per_creator <= creators[creator]:
            why = FULL_CREATOR
        if why is None and any(0 < rules.cap_per_cluster <= clusters[c] for c in of_item):
            why = FULL_CLUSTER
        if why is not None:
            left_out.append((place, why))
            continue
        listed.append(place)
        creators[creator] += 1
        clusters.update(of_item)
    return listed, left_out
