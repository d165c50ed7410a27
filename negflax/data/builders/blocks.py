"""Arrow tables ↔ examples of tensorflow-datasets: an example is a block of rows, column by column.

A column is one tensor of N numbers, N the rows of the block, kept as raw bytes; so reading a block
is a copy, not N parsed values. tensorflow-datasets knows no null, so that unknown is a value:

  int64    smallest int64            bool   int8 of -1 unknown, 0 no, 1 yes
  float64  NaN                       text   ""
  list     `values` of all rows, and `counts`, how many are each row's (0: none known)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow_datasets as tfds

from negflax.data.columns import flat, floats, integers, is_list, is_text

UNKNOWN = np.iinfo(np.int64).min
ROWS = 65_536  # of a block: some megabytes


def features(schema: pa.Schema) -> tfds.features.FeaturesDict:
    """The features of an example that holds rows of this schema."""
    return tfds.features.FeaturesDict({field.name: _feature(field.type) for field in schema})


def encode(table: pa.Table) -> dict[str, Any]:
    """A table of canonical types (schema.py) as an example."""
    return {name: _encode(flat(table[name])) for name in table.column_names}


def decode(example: dict[str, Any]) -> pa.Table:
    """The table that `encode` was given."""
    return pa.table({name: _decode(value) for name, value in example.items()})


def _feature(kind: pa.DataType) -> Any:
    if is_list(kind):
        return {"values": _feature(kind.value_type), "counts": _tensor(np.int32)}
    if is_text(kind):
        # np.str_ cannot be kept as raw bytes; ids that are integers are much faster.
        return tfds.features.Tensor(shape=(None,), dtype=np.str_)
    if pa.types.is_boolean(kind):
        return _tensor(np.int8)
    return _tensor(np.float64 if pa.types.is_floating(kind) else np.int64)


def _tensor(dtype: type) -> tfds.features.Tensor:
    return tfds.features.Tensor(shape=(None,), dtype=dtype, encoding=tfds.features.Encoding.BYTES)


def _encode(column: pa.Array) -> Any:
    kind = column.type
    if is_list(kind):
        counts = pc.fill_null(pc.list_value_length(column), 0)
        return {
            "values": _encode(flat(pa.chunked_array([pc.list_flatten(column)]))),
            "counts": counts.to_numpy(zero_copy_only=False).astype(np.int32),
        }
    if is_text(kind):
        return pc.fill_null(column, "").to_numpy(zero_copy_only=False)
    if pa.types.is_boolean(kind):
        return integers(pc.cast(column, pa.int8()), -1).astype(np.int8)
    return floats(column) if pa.types.is_floating(kind) else integers(column, UNKNOWN)


def _decode(value: Any) -> pa.Array:
    if isinstance(value, dict):
        offsets = np.append(0, np.cumsum(value["counts"])).astype(np.int32)
        empty = pa.array(value["counts"] == 0)
        return pa.ListArray.from_arrays(pa.array(offsets), _decode(value["values"]), mask=empty)
    if value.dtype == object:
        text = pa.array(value, pa.binary()).cast(pa.string())
        return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    if value.dtype == np.int8:
        return pc.equal(pa.array(value, mask=value < 0), 1)
    unknown = np.isnan(value) if value.dtype == np.float64 else value == UNKNOWN
    return pa.array(value, mask=unknown if unknown.any() else None)
