"""Quoting for shell scripts, so that words with any characters are passed unchanged."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from ..cluster import EXIT_PREEMPTED, EXITS_OF_INFRASTRUCTURE

PORT = 12355  # of the coordinator, where an engine does not choose one


def words(parts: Iterable[str]) -> str:
    """Returns the words as one line of shell, quoted where necessary."""
    return " ".join(map(shlex.quote, parts))


def restart_test(code: str, restarts: str, most: int) -> str:
    """Returns a shell condition: preempted, or ended from outside fewer than `most` times."""
    codes = " ] || [ ".join(f'"${code}" -eq {number}' for number in EXITS_OF_INFRASTRUCTURE)
    return (
        f'[ "${code}" -eq {EXIT_PREEMPTED} ] || {{ [ "${{{restarts}:-0}}" -lt {most} ] && '
        f"{{ [ {codes} ]; }}; }}"
    )
