"""Item tables whose ids are written otherwise than the log's: 17.0 for 17, 7 for 007."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from negflax.data.columns import flat, is_text
from negflax.data.parts import Parts

_WHOLE = r"^[+-]?\d{1,17}(?:\.0*)?$"


def like_events(items: pa.Table, parts: Parts) -> pa.Table:
    """The item table with its ids written as in the log.

    Ids that are the same text stay so. Where fewer than half of the items of the log's first part
    are found in this way, ids that look like whole numbers are compared as numbers, as far as each
    number is written in one way only in the log and in one way only in the table.

    Args:
      items: a validated item table.
      parts: the validated events.

    Returns:
      The table; `item_id` is text, unless both are numbers.
    """
    column, first = flat(items["item_id"]), pc.unique(flat(parts.first()["item_id"]))
    kind, as_written = first.type, _text(column)
    exact = pc.sum(pc.is_in(_text(first), value_set=as_written)).as_py() or 0
    if 2 * exact < len(first):
        seen = [pc.unique(flat(ids)) for ids in parts.map(lambda events: events["item_id"])]
        written = _unique_numbers(_text(pc.unique(pa.chunked_array(seen))))
        taken = set(as_written.to_pylist())  # by another row already
        spelling = {
            theirs: written[number]
            for number, theirs in _unique_numbers(as_written).items()
            if number in written and written[number] not in taken
        }
        ids = [spelling.get(one, one) for one in as_written.to_pylist()]
        as_written = pa.array(ids, pa.string())
    place = items.column_names.index("item_id")
    both_numbers = not is_text(kind) and not is_text(column.type)
    ids = pc.cast(as_written, kind) if both_numbers else as_written
    return items.set_column(place, "item_id", ids)


def _text(column: pa.Array) -> pa.Array:
    return pc.cast(column, pa.string())


def _unique_numbers(ids: pa.Array) -> dict[int, str]:
    """{number: text} of the ids that look like a whole number that only one of them is."""
    found: dict[int, str] = {}
    twice = set()
    for text in ids.filter(pc.match_substring_regex(ids, _WHOLE)).to_pylist():
        number = int(text.split(".")[0])
        if number in found:
            twice.add(number)
        found[number] = text
    return {number: text for number, text in found.items() if number not in twice}
