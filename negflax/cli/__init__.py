"""The command `negflax`: from a file of events to a trained run, and all programs of launch/."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def end_at_ctrl_c() -> None:
    """From here on Ctrl-C ends the process at once, with one line.

    The imports of a program take seconds, have nothing to lose, and may turn a KeyboardInterrupt
    into errors of their own. Once a program runs, negflax/preemption.py listens.
    """

    def end(number: int, frame: FrameType | None) -> None:
        os.write(2, b"interrupted: the same command starts again\n")
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not for `nohup … &`
        signal.signal(signal.SIGINT, end)


# `python -m launch.NAME`, as it is imported, or `negflax`; a library changes no signals.
if sys.argv and (sys.argv[0] == "-m" or os.path.basename(sys.argv[0]) == "negflax"):
    end_at_ctrl_c()
