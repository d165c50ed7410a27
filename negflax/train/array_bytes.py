"""Bytes of arrays on a device, from their shapes."""

from __future__ import annotations

from typing import Any

import jax


def array_bytes(tree: Any, tiled: bool = False) -> int:
    """Of all arrays; `tiled`: as TPUs store matrices, in tiles of 8 × 128 values of 32 bits."""
    return sum(
        (_tiled_size(x) if tiled and x.ndim == 2 else x.size) * x.dtype.itemsize
        for x in jax.tree.leaves(tree)
    )


def _tiled_size(x: Any) -> int:
    down = 8 * max(1, 4 // x.dtype.itemsize)
    return min(-(-a // down) * down * (-(-b // 128) * 128) for a, b in (x.shape, x.shape[::-1]))
