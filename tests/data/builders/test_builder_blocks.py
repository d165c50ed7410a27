"""Arrow tables survive the way through an example; unknown stays unknown."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tensorflow_datasets", reason="needs the extra `tfds`")
from negflax.data.builders.blocks import UNKNOWN, decode, encode, features  # noqa: E402

SCHEMA = pa.schema(
    [
        ("n", pa.int64()),
        ("f", pa.float64()),
        ("b", pa.bool_()),
        ("t", pa.string()),
        ("ln", pa.list_(pa.int64())),
        ("lt", pa.list_(pa.string())),
    ]
)
INTEGERS = st.integers(-(2**63) + 1, 2**63 - 1)
LETTERS = st.text("aé|中 ", min_size=1, max_size=4)
ROW = st.fixed_dictionaries(
    {
        "n": st.none() | INTEGERS,
        "f": st.none() | st.floats(allow_nan=False),
        "b": st.none() | st.booleans(),
        "t": st.none() | LETTERS,
        "ln": st.none() | st.lists(INTEGERS, min_size=1, max_size=3),
        "lt": st.none() | st.lists(LETTERS, min_size=1, max_size=3),
    }
)
FEATURES = features(SCHEMA)


@settings(max_examples=50, deadline=None)
@given(st.lists(ROW, max_size=8), st.integers(0, 3))
def test_a_round_trip_keeps_the_values(rows, start):
    table = pa.Table.from_pylist(rows, SCHEMA).slice(start)
    record = FEATURES.serialize_example(encode(table))
    back = decode(FEATURES.deserialize_example_np(record)).select(SCHEMA.names)
    assert back.schema == SCHEMA
    assert back.to_pylist() == table.to_pylist()


def test_unknown_values_are_marked():
    example = encode(pa.table({"n": [None, 1], "b": [None, True]}))
    np.testing.assert_array_equal(example["n"], [UNKNOWN, 1])
    np.testing.assert_array_equal(example["b"], [-1, 1])


def test_an_empty_list_is_no_known_value():
    table = pa.table({"ln": pa.array([[], None, [1]], pa.list_(pa.int64()))})
    assert decode(encode(table))["ln"].to_pylist() == [None, None, [1]]
