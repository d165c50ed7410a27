"""The processes of a run: how they find each other, and how they end."""

from __future__ import annotations

EXIT_DONE = 0
EXIT_USER_ERROR = 1  # told in one line; the same command fails again
EXIT_PREEMPTED = 42  # asked to leave, and saved: the same command goes on, and no try is counted
# 128 + signal: abort (a peer is gone), SIGKILL (memory, a lost machine), segmentation fault,
# SIGTERM before handlers were in place. The same command goes on, and the try is counted.
EXITS_OF_INFRASTRUCTURE = (134, 137, 139, 143)
