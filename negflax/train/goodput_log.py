"""<workdir>/goodput.jsonl: what each start of a run spent its time on, over all of its starts.

A line holds the seconds by phase up to a step, written with each line of progress and each
checkpoint. A start that was killed has no last line, so what it lost is known up to its newest one.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import secrets
from pathlib import Path
from typing import Any

from absl import logging

from negflax.train.background import Background
from negflax.train.goodput import Goodput
from negflax.train.json_lines import JsonLines, read_lines

GOODPUT = "goodput.jsonl"
LOST = "lost"  # the phase of steps that were trained again


class GoodputLog:
    """Appends the state of a `Goodput`; a full disk costs its lines, not the run."""

    def __init__(self, workdir: Path, goodput: Goodput):
        """Opens the file with a name for this start."""
        self._goodput, self._start = goodput, f"{os.getpid()}-{secrets.token_hex(4)}"
        self._step = 0
        self._lines = Background(GOODPUT, lambda: JsonLines(Path(workdir) / GOODPUT))

    def write(self, step: int) -> None:
        """A line for the state of this step."""
        self._step = step
        self._lines.write({"start": self._start, "step": step} | self._goodput.so_far())

    def close(self) -> None:
        """Ends the file, with a line for what followed the last one."""
        self.write(self._step)
        self._lines.close()


@dataclasses.dataclass(frozen=True)
class Account:
    """Where the time of a run went, over all its starts.

    Attributes:
      seconds: wall seconds by phase; `lost` are those of steps that a later start trained again.
      starts: how often it was started.
    """

    seconds: dict[str, float]
    starts: int

    @property
    def goodput(self) -> float:
        """The share of `step`: training that was kept."""
        total = sum(self.seconds.values())
        return self.seconds.get("step", 0.0) / total if total else 0.0


def account(workdir: str | Path) -> Account:
    """Adds up the lines of a run's folder; what cannot be read of them is left out."""
    lines = [x for x in read_lines(Path(workdir) / GOODPUT) if _is_whole(x)]
    starts = [list(group) for _, group in itertools.groupby(lines, key=lambda x: x["start"])]
    seconds: dict[str, float] = {}
    for start, later in itertools.zip_longest(starts, starts[1:]):
        wall = dict(start[-1]["wall"])
        if later:
            kept = [x["wall"].get("step", 0.0) for x in start if x["step"] <= later[0]["step"]]
            lost = wall.get("step", 0.0) - max(kept, default=0.0)
            wall["step"], wall[LOST] = wall.get("step", 0.0) - lost, lost
        for phase, value in wall.items():
            seconds[phase] = seconds.get(phase, 0.0) + value
    return Account({k: v for k, v in seconds.items() if v}, len(starts))


def log_summary(found: Account) -> None:
    """Logs one line: the share of each phase that took at least a hundredth of the time."""
    total = sum(found.seconds.values())
    if total:
        phases = sorted(found.seconds.items(), key=lambda item: -item[1])
        phases = [(phase, value) for phase, value in phases if value >= total / 100]
        logging.info(
            "goodput %.0f %% of %.1f s in %d start(s): %s",
            100 * found.goodput,
            total,
            found.starts,
            ", ".join(f"{phase} {100 * value / total:.0f} %" for phase, value in phases),
        )


def _is_whole(line: dict[str, Any]) -> bool:
    wall = line.get("wall")
    return (
        isinstance(line.get("start"), str)
        and isinstance(line.get("step"), int)
        and isinstance(wall, dict)
        and all(isinstance(value, int | float) for value in wall.values())
    )
