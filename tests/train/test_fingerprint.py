import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.config import MeshConfig
from negflax.mesh import make_mesh, split
from negflax.train.fingerprint import fingerprints


def reference(array, rows=None):
    """Σ word · odd(place) mod 2³² in Python integers, word by word."""
    array = np.asarray(array)
    words = array.view({1: np.uint8, 2: np.uint16, 4: np.uint32}[array.dtype.itemsize])
    total = 0
    for index in np.ndindex(words.shape):
        place = 0
        for i in index:
            place = (place * 0x9E3779B1 + i) % 2**32
        weight = ((place ^ (place >> 15)) * 0x846CA68B) % 2**32 | 1
        if rows is None or index[0] < rows:
            total += int(words[index]) * weight
    return total % 2**32


STATE = {
    "dense": {"kernel": np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)},
    "tables": {"item": {"rows": np.random.default_rng(1).normal(size=(6, 2)).astype(np.float32)}},
    "step": np.int32(7),
    "half": np.arange(4).astype(jnp.bfloat16),
}


def test_equals_the_reference():
    expected = {
        "dense/kernel": reference(STATE["dense"]["kernel"]),
        "half": reference(STATE["half"]),
        "step": reference(STATE["step"].reshape(())),
        "tables/item/rows": reference(STATE["tables"]["item"]["rows"], 5),
    }
    assert fingerprints(jax.tree.map(jnp.asarray, STATE), {"item": 5}) == expected


@pytest.mark.parametrize("devices", [1, 8])
def test_padding_and_devices_change_nothing(devices):
    rows = np.random.default_rng(2).normal(size=(16, 2)).astype(np.float32)
    place = split(make_mesh(MeshConfig(), jax.devices()[:devices]))
    table = {"tables": {"item": {"rows": jax.device_put(rows, place)}}}
    other = {"tables": {"item": {"rows": jnp.asarray(rows[:13])}}}
    assert fingerprints(table, {"item": 13}) == fingerprints(other, {"item": 13})


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 4), st.integers(0, 2), st.integers(0, 31))
def test_every_flipped_bit_is_seen(row, column, bit):
    kernel = STATE["dense"]["kernel"].copy()
    kernel.view(np.uint32)[row, column] ^= np.uint32(1 << bit)
    good, bad = (
        fingerprints({"dense": {"kernel": jnp.asarray(x)}}, {})
        for x in (STATE["dense"]["kernel"], kernel)
    )
    assert good != bad
