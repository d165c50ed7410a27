"""A session's state as bytes: a version, a JSON header, raw arrays and a checksum. No pickle.

    "NGFLSESS" | version, u16 | length of the header, u32 | header, JSON | arrays | CRC-32, u32

All numbers are little-endian. The header names the model by its fingerprint: the numbers of one
model's encoder mean nothing to another's.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import numpy as np

MAGIC, VERSION = b"NGFLSESS", 2
_START = struct.Struct("<8sHI")
_END = struct.Struct("<I")
_DTYPES = ("bool", "float16", "bfloat16", "float32", "float64", "int32", "int64")


class StateError(ValueError):
    """Bytes that are no state of this model; the message says why and what to do."""


def pack(fingerprint: str, fields: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    """Bytes of a state.

    Args:
      fingerprint: of the model.
      fields: anything that JSON holds.
      arrays: by name.
    """
    listed = {name: (str(x.dtype), x.shape) for name, x in arrays.items()}
    header = json.dumps({"model": fingerprint, "fields": fields, "arrays": listed}).encode()
    raw = b"".join(np.ascontiguousarray(x).tobytes() for x in arrays.values())
    body = _START.pack(MAGIC, VERSION, len(header)) + header + raw
    return body + _END.pack(zlib.crc32(body))


def unpack(data: bytes, fingerprint: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(fields, arrays) of `pack`.

    Raises:
      StateError: the bytes are no state, are damaged, or are of another version or model.
    """
    data = bytes(data) if isinstance(data, bytes | bytearray | memoryview) else b""
    if len(data) < _START.size + _END.size or not data.startswith(MAGIC):
        raise StateError("the bytes are not a session state: give what Session.to_bytes() returned")
    _, version, length = _START.unpack_from(data)
    if version != VERSION:
        raise StateError(
            f"session state of version {version}, this negflax reads version {VERSION}: start the "
            "session again from the user's events"
        )
    body, start = data[: -_END.size], _START.size + length
    if zlib.crc32(body) != _END.unpack(data[-_END.size :])[0]:
        raise StateError(
            "the session state is damaged (its checksum differs): start the session again from the "
            "user's events"
        )
    header = json.loads(body[_START.size : start])
    if header["model"] != fingerprint:
        raise StateError(
            f"session state of model {header['model']}, this is model {fingerprint}: start the "
            "session again from the user's events"
        )
    arrays = {}
    for name, (dtype, shape) in header["arrays"].items():
        if dtype not in _DTYPES:
            raise StateError(f"the session state has an array of the unexpected type {dtype}")
        count = int(np.prod(shape))
        arrays[name] = np.frombuffer(body, np.dtype(dtype), count, start).reshape(shape)
        start += arrays[name].nbytes
    return header["fields"], arrays
