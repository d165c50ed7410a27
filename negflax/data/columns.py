"""Arrow columns to NumPy and back: the few conversions that every file of this package needs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Column = pa.Array | pa.ChunkedArray
ID_COLUMNS = ("user_id", "item_id", "creator_id")
PLAIN_INTEGER = r"^(0|-?[1-9]\d{0,17})$"


def flat(column: Column) -> pa.Array:
    """The column as one contiguous array, in the plain type of those that hold the same values."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    if pa.types.is_dictionary(column.type):
        column = flat(column.dictionary).take(column.indices)
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    if is_list(column.type) and not pa.types.is_list(column.type):
        plain = pa.list_(column.type.value_type)
        view = "view" in str(column.type)  # whose cast to a list fails in pyarrow
        column = pa.array(column.to_pylist(), plain) if view else column.cast(plain)
    return column


def whole_numbers(column: Column) -> bool:
    """Whether the ids of a column are whole numbers, as integers or as text: 17 or "17"."""
    if not is_text(column.type):
        return True
    distinct = pc.drop_null(pc.unique(column))
    return pc.all(pc.match_substring_regex(distinct, PLAIN_INTEGER), min_count=0).as_py()


def without_fraction(ids: Column) -> Column:
    """Text ids with 17.0 as 17: programs write integers as floats where one of them is missing."""
    if not pc.any(pc.match_substring(ids, ".0"), min_count=0).as_py():
        return ids  # several times faster than the pattern
    return pc.replace_substring_regex(ids, r"^(-?\d+)\.0+$", r"\1")


def spelled(ids: np.ndarray) -> np.ndarray:
    """Ids as integers, or as text in the spelling of a validated log."""
    if ids.dtype.kind in "iu":
        return ids
    ids = ids.astype(str)
    odd = np.char.find(ids, ".0") >= 0
    if odd.any():
        ids[odd] = without_fraction(pa.array(ids[odd].tolist())).to_pylist()
    return ids


def numeric_ids(table: pa.Table) -> pa.Table:
    """The table with text ids as int64 where every one is a whole number."""
    for name in ID_COLUMNS:
        if name in table.column_names and is_text(table[name].type):
            known = table[name].null_count < len(table)
            if known and whole_numbers(table[name]):
                place = table.column_names.index(name)
                table = table.set_column(place, name, table[name].cast(pa.int64()))
    return table


def tidy_names(table: pa.Table) -> pa.Table:
    """The table with names of columns without blanks around them."""
    names = [name.strip() for name in table.column_names]
    return table if names == table.column_names else table.rename_columns(names)


def floats(column: Column) -> np.ndarray:
    """A boolean or number column as float64, NaN where it is null."""
    values = pc.fill_null(pc.cast(flat(column), pa.float64(), safe=False), float("nan"))
    return values.to_numpy(zero_copy_only=False)


def integers(column: Column, null: int) -> np.ndarray:
    """An integer column as int64, `null` where it is null."""
    return pc.fill_null(pc.cast(flat(column), pa.int64()), null).to_numpy(zero_copy_only=False)


def values(column: Column) -> np.ndarray:
    """Ids without nulls as int64 or fixed-width text, so that no object array reaches a file."""
    array = flat(column).to_numpy(zero_copy_only=False)
    return array.astype(str) if array.dtype == object else array.astype(np.int64)


def factorize(column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Numbers the distinct values of an id column.

    Returns:
      (codes_E int64, -1 where null; distinct values, sorted), values[codes] being the column.
    """
    encoded = flat(column).dictionary_encode()
    distinct = values(encoded.dictionary)
    order = np.argsort(distinct, kind="stable")
    rank = np.empty(len(order) + 1, np.int64)
    rank[order] = np.arange(len(order))
    rank[-1] = -1  # a null has the code -1
    return rank[integers(encoded.indices, -1)], distinct[order]


def runs(column: Column) -> tuple[np.ndarray, np.ndarray]:
    """`factorize` of a column without nulls whose equal values stand together, in its own order."""
    encoded = pc.run_end_encode(flat(column), run_end_type=pa.int64())
    length = np.diff(encoded.run_ends.to_numpy(), prepend=0)
    return np.repeat(np.arange(len(length)), length), values(encoded.values)


def stable_order(code_E: np.ndarray) -> np.ndarray:
    """`argsort(kind="stable")` of codes from 0 up to 2^32, by radix: NumPy has that for 16 bits."""
    order = np.argsort((code_E & 0xFFFF).astype(np.uint16), kind="stable")
    high_E = code_E >> 16
    if high_E.any():
        order = order[np.argsort(high_E[order].astype(np.uint16), kind="stable")]
    return order


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds strings."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def is_binary(kind: pa.DataType) -> bool:
    """Whether a column of this type holds bytes."""
    views = pa.types.is_binary_view(kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or views


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of this type holds lists."""
    fixed = pa.types.is_fixed_size_list(kind)
    views = pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or fixed or views


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type holds integers or floats."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def alike(tables: list[pa.Table], names: tuple[str, ...]) -> list[pa.Table]:
    """The tables with an id column as text in all of them, where it is text in one of them."""
    for name in names:
        kinds = {table.schema.field(name).type for table in tables if name in table.column_names}
        if len(kinds) > 1:
            tables = [as_text(table, name) for table in tables]
    return tables


def as_text(table: pa.Table, name: str) -> pa.Table:
    """The table with the column, if it has it, as text."""
    if name not in table.column_names:
        return table
    return table.set_column(table.column_names.index(name), name, table[name].cast(pa.string()))


def listed(names: list[str], most: int = 30) -> str:
    """The names, for a message: of many, the first."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if names[most:] else "")
