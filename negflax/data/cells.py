"""Checks of single columns: each error says where (file, column, row) and what to do instead."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from negflax.data.columns import (
    PLAIN_INTEGER,
    Column,
    flat,
    is_binary,
    is_list,
    is_number,
    is_text,
    without_fraction,
)

NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
_YES = r"^\s*(?i:true|t|yes|y|1(?:\.0+)?)\s*$"
_NO = r"^\s*(?i:false|f|no|n|0(?:\.0+)?)\s*$"
# How programs write an id that is missing. In a log, each would make one item or user of many.
_NO_ID = ("", "nan", "NaN", "NAN", "null", "Null", "NULL", "None", "NaT", "<NA>", "NA", "N/A")
NO_ID = pa.array([*_NO_ID, "n/a", "#N/A", "\\N"])
# Above, neighbouring integers are one float.
LARGEST_IDS = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): 2**53}
LONGEST_ID = 1_000  # characters: ids are stored at a fixed width, so one long id costs all of them
LONGEST_TITLE = 500  # as LONGEST_ID, but a title can be cut


class DataError(ValueError):
    """Unusable events or items; the message names file, column and row, and the remedy."""


@dataclasses.dataclass(frozen=True)
class Place:
    """One column of one file, from its row `start` on."""

    name: str
    column: str
    start: int = 0

    def error(self, row: int | None, problem: str, remedy: str) -> DataError:
        """A DataError at a row (0-based from the start), or for the whole column."""
        at = "" if row is None else f", row {self.start + row}"
        return DataError(f"{self.name}: column `{self.column}`{at}: {problem}; {remedy}")


def plain(column: Column, place: Place) -> pa.Array:
    """The column as one array, dictionary encoding undone and bytes read as UTF-8 text.

    Raises:
      DataError: bytes that are no UTF-8.
    """
    try:
        column = flat(column)
        return pc.cast(column, pa.string()) if is_binary(column.type) else column
    except pa.ArrowInvalid as error:
        raise place.error(None, "bytes that are not UTF-8", "save the file as UTF-8") from error


def first(mask: pa.Array) -> int | None:
    """Row of the first true value (null counts as false), or None."""
    row = pc.index(mask, pa.scalar(True)).as_py()
    return None if row < 0 else row


def no_null(column: pa.Array, place: Place, remedy: str, was: pa.Array | None = None) -> None:
    """Raises a DataError at the first null; `was` is the column as it was written."""
    if column.null_count:
        row = first(pc.is_null(column))
        written = None if was is None else was[row].as_py()
        raise place.error(row, f"{written!r} is not an id" if written else "is null", remedy)


def require_exact(column: Column, place: Place) -> None:
    """Raises a DataError for ids in a float type that has one value for several of them.

    Args:
      column: as it was given: `plain` makes other floats of 16 bits.
      place: for messages.
    """
    kind = column.type
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        kind = kind.value_type
    if kind in LARGEST_IDS:
        size = pc.abs(pc.cast(flat(column), pa.float64()))
        row = first(pc.greater(size, float(LARGEST_IDS[kind])))
        if row is not None:
            short = np.dtype(kind.to_pandas_dtype())
            problem = f"{column[row].as_py()} is not an id that {short} holds exactly"
            raise place.error(row, problem, "write ids as integers or text")


def ids(column: pa.Array, place: Place) -> pa.Array:
    """Ids as int64 or text, without blanks around them, 17.0 as 17; null and NO_ID are null.

    Raises:
      DataError: the column holds neither whole numbers nor text.
    """
    kind = column.type
    if pa.types.is_null(kind):
        return column.cast(pa.int64())
    if is_text(kind):
        column = without_fraction(pc.utf8_trim_whitespace(pc.cast(column, pa.string())))
        _require_storable(column, place)
        missing = pc.is_in(column, value_set=NO_ID)
        if first(missing) is None:
            return column
        return pc.if_else(missing, pa.scalar(None, pa.string()), column)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        column = _whole(column, place)
    elif not pa.types.is_integer(kind):
        raise place.error(None, f"ids of type {kind}", "write them as integers or text")
    try:
        return pc.cast(column, pa.int64())
    except pa.ArrowInvalid as error:
        raise place.error(None, "an id beyond int64", "write the ids as text") from error


def _whole(column: pa.Array, place: Place) -> pa.Array:
    """Floats or decimals that are whole numbers, NaN as null."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    row = first(pc.not_equal(column, pc.round(column)))
    if row is not None:
        value = column[row].as_py()
        raise place.error(row, f"{value} is not an id", "write ids as integers or text")
    return pc.round(column)


def padded(column: pa.Array) -> int:
    """How many ids of a text column have blanks around them, which `ids` removes."""
    if not is_text(column.type):
        return 0
    return pc.sum(pc.not_equal(column, pc.utf8_trim_whitespace(column))).as_py() or 0


def _require_storable(column: pa.Array, place: Place) -> None:
    """Raises a DataError for text that fixed-width arrays cannot hold, or only at a great price."""
    row = first(pc.greater(pc.utf8_length(column), LONGEST_ID))
    if row is not None:
        length = len(column[row].as_py())
        remedy = f"write ids of at most {LONGEST_ID:,} characters"
        raise place.error(row, f"an id of {length:,} characters", remedy)
    row = first(pc.match_substring(column, "\0"))
    if row is not None:
        raise place.error(row, f"the id {column[row].as_py()!r} holds a zero byte", "remove it")


def clusters(column: pa.Array, place: Place) -> pa.Array:
    """Cluster ids as int64 or lists: of int64 or text.

    Text is a list as well, separated by `|`, as a CSV file writes it: `Action|Comedy` are two
    clusters. Without any name between the bars, it is null.

    Raises:
      DataError: they are neither integers nor text.
    """
    kind = column.type
    if is_text(kind):
        return _separated(pc.cast(column, pa.string()))
    if not is_list(kind):
        return ids(column, place)
    inner = kind.value_type
    if pa.types.is_string_view(inner):
        column, inner = column.cast(pa.list_(pa.string())), pa.string()
    if pa.types.is_integer(inner) or pa.types.is_null(inner):
        try:
            return column.cast(pa.list_(pa.int64()))
        except pa.ArrowInvalid as error:
            raise place.error(None, "an id beyond int64", "write the ids as text") from error
    if is_text(inner):
        column = column.cast(pa.list_(pa.string()))
        _require_storable(column.flatten(), place)
        return column
    raise place.error(None, f"lists of {inner}", "write cluster ids as integers or text")


def _separated(column: pa.Array) -> pa.Array:
    """Lists of the names between bars; blanks around a name and empty names are left out."""
    tidy = pc.replace_substring_regex(column, r"\s*(?:\|\s*)+", "|")
    tidy = pc.utf8_trim(tidy, "| \t")
    return pc.split_pattern(pc.if_else(pc.equal(tidy, ""), None, tidy), "|")


def text(column: pa.Array, place: Place) -> pa.Array:
    """Words as text.

    Raises:
      DataError: they are something else.
    """
    if is_text(column.type) or pa.types.is_null(column.type):
        return pc.cast(column, pa.string())
    raise place.error(None, f"values of type {column.type}", "write words, and null where unknown")


def title(column: pa.Array, place: Place) -> pa.Array:
    """Titles as text, cut at LONGEST_TITLE; numbers, as in a table with only the film 1917, too.

    Raises:
      DataError: they are lists or the like.
    """
    try:
        return pc.utf8_slice_codeunits(pc.cast(column, pa.string()), 0, LONGEST_TITLE)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        remedy = "write words, and null where unknown"
        raise place.error(None, f"values of type {column.type}", remedy) from error


def signal(column: pa.Array, place: Place) -> pa.Array:
    """A yes/no signal as a nullable boolean.

    Raises:
      DataError: a value is not 0 or 1, nor one of the words true, false, yes, no and their first
        letters, in any case.
    """
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return column.cast(pa.bool_())
    if is_text(kind):
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
        yes = pc.match_substring_regex(column, _YES)
        good = pc.or_(yes, pc.match_substring_regex(column, _NO))
    elif is_number(kind):
        good = pc.or_(pc.equal(column, 0), pc.equal(column, 1))
    else:
        raise place.error(None, f"values of type {kind}", "write true, false or null")
    row = first(pc.invert(good))
    if row is not None:
        remedy = "write 1 or 0, and null where the answer is unknown"
        raise place.error(row, f"{column[row].as_py()!r} is neither yes nor no", remedy)
    return yes if is_text(kind) else pc.equal(column, 1)


def numeric(kind: pa.DataType) -> bool:
    """Whether `number` reads columns of this type as numbers: null and boolean ones, too."""
    return is_number(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)


def number(column: pa.Array, kind: pa.DataType, place: Place, at_least_zero: bool) -> pa.Array:
    """A number column as `kind` (int64: rounded; float64).

    Raises:
      DataError: text, NaN, an infinity, or a negative where `at_least_zero`.
    """
    remedy = "write a number, and null where it is unknown"
    if is_text(column.type):
        row = first(pc.invert(pc.match_substring_regex(column, NUMBER)))
        if row is not None:
            word = column[row].as_py()
            if re.fullmatch(r"[\d.,' ]+", word.strip()):
                remedy = "write 1234.5: a point before decimals, and nothing between thousands"
            raise place.error(row, f"text {word!r} in a number column", remedy)
        column = pc.utf8_trim_whitespace(column)
        whole = pa.types.is_integer(kind) and pc.all(
            pc.match_substring_regex(column, PLAIN_INTEGER), min_count=0
        )
        column = pc.cast(column, pa.int64() if whole and whole.as_py() else pa.float64())
    elif pa.types.is_timestamp(column.type):
        column = pc.cast(_in_milliseconds(column, place), kind)
    elif pa.types.is_boolean(column.type) or pa.types.is_null(column.type):
        column = pc.cast(column, pa.int64())
    elif not is_number(column.type):
        raise place.error(None, f"values of type {column.type}", remedy)
    if pa.types.is_floating(column.type):
        row = first(pc.invert(pc.is_finite(column)))
        if row is not None:
            raise place.error(row, f"{column[row].as_py()} is not finite", remedy)
        if pa.types.is_integer(kind):
            column = pc.round(column)
    elif pa.types.is_decimal(column.type) and pa.types.is_integer(kind):
        column = pc.round(column)
    if pa.types.is_uint64(column.type):
        beyond = first(pc.greater(column, pa.scalar(2**63 - 1, pa.uint64())))
        if beyond is not None and pa.types.is_integer(kind):
            raise place.error(beyond, f"{column[beyond].as_py()} is a number beyond {kind}", remedy)
    elif at_least_zero:
        row = first(pc.less(column, 0))
        if row is not None:
            raise place.error(row, f"{column[row].as_py()} is negative", remedy)
    if pa.types.is_float32(column.type) and pa.types.is_floating(kind):
        column = pc.cast(column, pa.string())  # 0.7 is 0.7 then, as in a rule, not 0.699999988
    try:
        return pc.cast(column, kind, safe=pa.types.is_integer(kind))
    except pa.ArrowInvalid as error:
        raise place.error(None, f"a number beyond {kind}", remedy) from error


def vectors(column: pa.Array, place: Place) -> pa.Array:
    """Lists of float32 of one length; null where the vector is unknown.

    Raises:
      DataError: other values than lists of numbers, an empty list, another length than the first
        one's, a null, NaN or infinity in a list, or no list at all.
    """
    remedy = "write lists of numbers, all of one length, and null where an item has none"
    if not is_list(column.type) or not is_number(column.type.value_type):
        raise place.error(None, f"values of type {column.type}", remedy)
    length = pc.list_value_length(column)
    start = first(pc.is_valid(length))
    if start is None:
        raise place.error(None, "no item has a vector", "write some, or leave the column out")
    width = length[start].as_py()
    row = start if width == 0 else first(pc.not_equal(length, width))
    if row is not None:
        where = "" if row == start else f", row {place.start + start} has {width}"
        raise place.error(row, f"a list of {length[row].as_py()} values{where}", remedy)
    values = pc.cast(column.flatten(), pa.float32(), safe=False)
    bad = first(pc.invert(pc.fill_null(pc.is_finite(values), False)))
    if bad is not None:
        row = int(pc.list_parent_indices(column)[bad].as_py())
        raise place.error(row, f"{values[bad].as_py()} in the list", "write finite numbers")
    return pc.cast(column, pa.list_(pa.float32()), safe=False)


def _in_milliseconds(column: pa.Array, place: Place) -> pa.Array:
    """Timestamps as timestamps in milliseconds, what is finer cut off."""
    finer = column.type.unit in ("us", "ns")
    try:
        return pc.cast(column, pa.timestamp("ms", column.type.tz), safe=not finer)
    except pa.ArrowInvalid as error:
        raise place.error(None, f"a time out of range ({error})", "correct it") from error


def finite_or_null(column: pa.Array) -> pa.Array:
    """A number column with null for NaN and infinity; for columns that nothing asks for."""
    if not pa.types.is_floating(column.type):
        return column
    column = pc.cast(column, pa.float64())
    return pc.if_else(pc.is_finite(column), column, pa.scalar(None, pa.float64()))
