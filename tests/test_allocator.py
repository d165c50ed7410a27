"""Freed memory is there again without new pages, and a variable switches that off."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from negflax.allocator import keep_memory

print(keep_memory())
np.ones(20_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(20_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="runs on Linux with glibc")
def test_pages_are_kept():
    told, faults = {}, {}
    for switch in ("1", "0"):
        environment = os.environ | {"NEGFLAX_KEEP_MEMORY": switch, "MALLOC_ARENA_MAX": "1"}
        run = [sys.executable, "-c", PROGRAM]
        found = subprocess.run(run, env=environment, check=True, capture_output=True, text=True)
        told[switch], faults[switch] = found.stdout.split()
    assert told == {"1": "True", "0": "False"}
    assert int(faults["1"]) < 200 < int(faults["0"])


GAPS = """
import numpy as np
from negflax.allocator import keep_memory, return_memory

def pages():
    return int(open("/proc/self/statm").read().split()[1])

keep_memory()
before = pages()
arrays = [np.ones(200_000) for _ in range(100)]
kept = arrays[1::2]
del arrays
full = pages()
print(return_memory(), pages() - before < 0.7 * (full - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="runs on Linux with glibc")
def test_freed_memory_goes_back():
    run = [sys.executable, "-c", GAPS]
    found = subprocess.run(run, check=True, capture_output=True, text=True)
    assert found.stdout.split() == ["True", "True"]
