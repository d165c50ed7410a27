"""A synthetic event log of any size, and the build of its cache in a process of its own."""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import logging

from negflax.config import Config, DataConfig, LabelConfig
from negflax.data import open_sequences

FILE_EVENTS = 2_000_000
EVENTS_A_USER, ITEMS = 100, 200_000
START_MS, SPAN_MS = 1_650_000_000_000, 30 * 86_400_000


def write_log(folder: Path, events: int, seed: int = 0) -> None:
    """Parquet files in the order of time, users interleaved and of skewed activity.

    Ten columns: ids, time, four signals (one with nulls), dwell, duration, surface.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = -(-events // FILE_EVENTS)
    users = max(events // EVENTS_A_USER, 1)
    for i in range(files):
        rng = np.random.default_rng((seed, i))
        num = min(FILE_EVENTS, events - i * FILE_EVENTS)
        duration = rng.integers(5_000, 120_000, num)
        dwell = (duration * 1.5 * rng.random(num)).astype(np.int64)
        first = START_MS + i * SPAN_MS // files
        table = pa.table(
            {
                "user_id": (rng.random(num) ** 2 * users).astype(np.int64),
                "item_id": (rng.random(num) ** 3 * ITEMS).astype(np.int64),
                "timestamp_ms": first + np.sort(rng.integers(0, SPAN_MS // files, num)),
                "long_view": dwell > 0.7 * duration,
                "like": rng.random(num) < 0.02,
                "dislike": pa.array(rng.random(num) < 0.01, mask=rng.random(num) < 0.1),
                "skip": dwell < 3_000,
                "dwell_ms": dwell,
                "duration_ms": duration,
                "surface": rng.integers(0, 5, num),
            }
        )
        pq.write_table(table, folder / f"{i:05d}.parquet", row_group_size=1_000_000)


def config_of(log: Path) -> Config:
    """Its labels: long views and likes, dislikes and skips."""
    return Config(
        data=DataConfig(source="event_log", path=str(log)),
        labels=LabelConfig(positive=("long_view", "like"), negative=("dislike", "skip")),
    )


def main(log: str, workdir: str) -> None:
    """Builds the cache and prints seconds and peaks of memory as JSON."""
    anonymous, over = [0], threading.Event()

    def sample() -> None:
        while not over.wait(0.05):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    anonymous.append(int(line.split()[1]))

    thread = threading.Thread(target=sample)
    thread.start()
    begin, cpu = time.perf_counter(), time.process_time()
    open_sequences(config_of(Path(log)), workdir)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    over.set()
    thread.join()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu_seconds": cpu,
                "peak_gib": peak / 2**20,
                "anonymous_gib": max(anonymous) / 2**20,
            }
        )
    )


if __name__ == "__main__":
    logging.set_verbosity(logging.INFO)
    main(*sys.argv[1:])
