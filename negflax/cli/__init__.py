"""The command `negflax`: from a file of events to a trained run, and all programs of launch/."""

from __future__ import annotations

import sys
from types import TracebackType


def tell_ctrl_c_in_one_line() -> None:
    """From here on Ctrl-C ends the program with a line; the imports of a program take seconds.

    What a program does once it runs is said in negflax/preemption.py.
    """
    before = sys.excepthook

    def told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print("interrupted: the same command starts again", file=sys.stderr)
        else:
            before(kind, error, trace)

    sys.excepthook = told


tell_ctrl_c_in_one_line()
