"""Keeps the memory of one training step for the next one, on Linux with glibc, or returns it.

XLA's CPU client frees its temporaries after each step, glibc returns large blocks to the kernel,
and the next step pays for them again, page by page: a fifth of the CPU time of a small model. With
these settings freed memory stays in the heap. They hold for the whole process, so programs of
`launch/` and `negflax train` apply them, and `import negflax` does not.
"""

from __future__ import annotations

import ctypes
import os
import sys

SWITCH = "NEGFLAX_KEEP_MEMORY"  # 0 leaves the allocator as it is

# mallopt's parameters, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


def keep_memory() -> bool:
    """Makes the C allocator keep what is freed; call it before JAX starts its threads.

    One arena: a block that one thread frees is then there for the others.

    Returns:
      Whether it did: on Linux with glibc, unless the environment variable NEGFLAX_KEEP_MEMORY is 0.
    """
    if os.environ.get(SWITCH) == "0" or sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    settings = (
        (_M_MMAP_MAX, 0),  # all blocks from the heap
        (_M_TRIM_THRESHOLD, 2**31 - 1),  # of which nothing is returned
        (_M_TOP_PAD, 64 << 20),  # and which grows in large pieces
        (_M_ARENA_MAX, 1),
    )
    return all([mallopt(name, value) == 1 for name, value in settings])


def return_memory() -> bool:
    """Returns freed memory to the kernel; for the end of work whose arrays are of many sizes.

    Between such arrays the heap is left with gaps that the next ones do not fit in, so that a
    process that repeats the work grows each time.

    Returns:
      Whether it did: on Linux with glibc.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    return trim is not None and bool(trim(0))
