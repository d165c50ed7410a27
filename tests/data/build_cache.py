"""A process that opens the sequences of a log: `build_cache.py MODE LOG WORKDIR`.

Modes: plain; stop: in the middle of a build it makes WORKDIR/reached and waits to be killed; pause:
the same, until WORKDIR/go is there; slow: it takes a second; limit: no file may grow beyond 1 kB;
nobody: as a user without rights.
"""

import os
import resource
import sys
import time
from pathlib import Path

from absl import logging

from negflax.config import Config, DataConfig, LabelConfig
from negflax.data import cache


def config_of(path):
    return Config(
        data=DataConfig(source="event_log", path=str(path), split="column"),
        labels=LabelConfig(positive=("long_view",), negative=("dislike", "skip")),
    )


def main(mode, path, workdir):
    append = cache.ColumnFiles.append

    def slow(self, columns):
        append(self, columns)
        (Path(workdir) / "reached").touch()
        end = time.monotonic() + {"stop": 900, "pause": 900, "slow": 0.5}[mode]
        while time.monotonic() < end and not (Path(workdir) / "go").exists():
            time.sleep(0.02)

    if mode in ("stop", "pause", "slow"):
        cache.ColumnFiles.append = slow
    if mode == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
    if mode == "nobody":
        os.setuid(65534)
    logging.set_verbosity(logging.INFO)
    found = cache.open_sequences(config_of(path), workdir)
    print(found.item_E.tobytes().hex(), found.report["events"])


if __name__ == "__main__":
    main(*sys.argv[1:])
