"""Which column of a file is which of ours, guessed from names and types."""

from __future__ import annotations

import re
from typing import NamedTuple

import pyarrow as pa

from negflax.data import DataError
from negflax.data.columns import is_binary, is_list, is_number, is_text

_ITEMS = "item movie video product song track article news book post content recipe game photo ad"
_USERS = "user customer member reviewer account visitor viewer client buyer reader listener person"
# Names of a role without case, blanks and underscores, best first; names in one group are equals.
NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "user_id": (
        ("userid",),
        ("uid", *(f"{name}id" for name in _USERS.split()[1:])),
        tuple(_USERS.split()),
        ("sid", "sessionid", "session"),
    ),
    "item_id": (
        ("itemid",),
        ("iid", "asin", "isbn", "sku", *(f"{name}id" for name in _ITEMS.split()[1:])),
        tuple(_ITEMS.split()),
        ("mid", "pid", "vid", "sid"),
    ),
    "timestamp_ms": (
        ("timestampms",),
        ("timestamp", "ts", "timems", "eventtime", "eventtimestamp", "eventtimems", "unixtime")
        + ("unixtimestamp", "unixreviewtime"),
        ("time", "date", "datetime", "createdat", "ratedat", "reviewtime", "playedat", "eventdate"),
        ("day",),
    ),
    "creator_id": (
        ("creatorid",),
        ("authorid", "artistid", "channelid", "sellerid", "brandid", "publisherid"),
        ("creator", "author", "artist", "channel", "seller", "brand", "publisher"),
    ),
    "cluster_ids": (
        ("clusterids", "clusterid"),
        ("genres", "genre", "categories", "category", "categoryid", "tags", "topic", "topics"),
    ),
    "title": (("title",), ("itemtitle", "movietitle", "name", "itemname")),
}
REQUIRED = {"user_id": "user_id", "item_id": "item_id", "timestamp_ms": "timestamp_ms (or pos)"}
EVENT_ROLES = ("user_id", "item_id", "timestamp_ms", "creator_id", "cluster_ids")
ITEM_ROLES = ("item_id", "title", "creator_id", "cluster_ids")


class Guess(NamedTuple):
    """Columns by role.

    Attributes:
      columns: {ours: theirs}, those of equal names too.
      unclear: {ours: candidates} of optional roles that were left out.
    """

    columns: dict[str, str]
    unclear: dict[str, list[str]]


def guess(schema: pa.Schema, name: str, given: dict[str, str], roles: tuple[str, ...]) -> Guess:
    """Guesses the columns of a file.

    Args:
      schema: of the file.
      name: of the file, for messages.
      given: {ours: theirs} that the user has said.
      roles: to look for.

    Raises:
      DataError: columns are missing or cannot be told from each other; all are named at once.
    """
    columns = {o: t for o, t in given.items()}
    unclear: dict[str, list[str]] = {}
    # A second look, as a name that fits two roles may by then be taken by one of them.
    for _ in range(2):
        wanted = {role: _best(role, schema, columns) for role in roles if role not in columns}
        for role, found in wanted.items():
            rivals = [c for other, c in wanted.items() if other != role]
            if len(found) == 1 and not any(found[0] in c and len(c) == 1 for c in rivals):
                columns[role] = found[0]
    for role in roles:
        found = [] if role in columns else _best(role, schema, columns)
        if found:
            unclear[role] = found
    needs = [role for role in roles if role in REQUIRED and role not in columns]
    if "pos" in {*schema.names, *columns} and "timestamp_ms" in needs:
        needs.remove("timestamp_ms")
    if needs:
        told = [_told(role, unclear.pop(role, [])) for role in needs]
        example = ",".join(f"{role}=NAME" for role in needs)
        raise DataError(
            f"{name}: {'; '.join(told)}. The file has {', '.join(schema.names)}: name the columns, "
            f"as in --columns={example}"
        )
    return Guess(columns, unclear)


def _told(role: str, candidates: list[str]) -> str:
    if candidates:
        return f"{REQUIRED[role]} may be {' or '.join(candidates)}"
    return f"no column looks like {REQUIRED[role]}"


def _best(role: str, schema: pa.Schema, taken: dict[str, str]) -> list[str]:
    """The columns of the best group of names that any free column is in."""
    free = [f for f in schema if f.name not in taken.values() and _fits(role, f.type)]
    for group in NAMES[role]:
        found = [f.name for f in free if re.sub(r"[\W_]", "", f.name.lower()) in group]
        exact = [name for name in found if name == role]
        if found:
            return exact or found
    if role == "timestamp_ms":
        return [f.name for f in free if pa.types.is_temporal(f.type)]
    return []


def _fits(role: str, kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if role == "timestamp_ms":
        return not pa.types.is_boolean(kind) and not pa.types.is_nested(kind)
    words = is_text(kind) or pa.types.is_string_view(kind) or is_binary(kind)
    return words or is_number(kind) or (role == "cluster_ids" and is_list(kind))
