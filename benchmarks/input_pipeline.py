"""Speed of the input path: events to cache, cache to batches, batches to a training step.

  python -m benchmarks.input_pipeline --json=input_pipeline.json   # about 10 minutes, 15 GB of disk
  python -m benchmarks.input_pipeline --quick                      # about a minute

A synthetic log of 100 M events (ten columns, users interleaved) becomes a cache in a process of its
own; its peak memory is the largest resident set, mapped files included, and beside it what is not
mapped from a file. Then batches of B = 256 rows of T = 50 steps with all features and labels are
made on one thread, by us from the cache and by each peer from the same rows ready made on disk. At
last configs/kuairand.py trains, and the goodput timer tells for which share of the steps' time the
device waited. A peer that is not installed gets null and the reason.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging as standard_logging
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks import _input_log
from benchmarks._input_peers import PEERS, rows_of
from configs import kuairand
from launch import flags as shared
from negflax.config import BatchConfig, from_config_dict
from negflax.data import DataError, StreamBatches, open_sequences
from negflax.evaluate import format_table
from negflax.files import write_json
from negflax.fitting import train_run

QUICK = flags.DEFINE_boolean("quick", False, "2 M events, 60 training steps.")
EVENTS = flags.DEFINE_integer("events", 100_000_000, "Events of the synthetic log.")
FOLDER = flags.DEFINE_string("folder", "", "For log and cache; empty: a temporary folder.")
ROWS, LENGTH = 256, 50


def build(folder: Path, events: int) -> dict[str, float]:
    """Writes the log and builds its cache in another process; what that one measured."""
    log = folder / f"log-{events}"
    if not log.exists():
        _input_log.write_log(log.with_name(f".{log.name}"), events)
        log.with_name(f".{log.name}").rename(log)
    shutil.rmtree(folder / "data", ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks._input_log", str(log), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def rate(batches: Iterator[Any], seconds: float) -> float:
    """Events a CPU second of this process, all its threads, after three batches of warm-up."""
    list(itertools.islice(batches, 3))
    begin, cpu, num = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begin < seconds:
        next(batches)
        num += 1
    return num * ROWS * LENGTH / (time.process_time() - cpu)


def peer_rates(batches: StreamBatches, seconds: float, folder: Path) -> dict[str, Any]:
    """Events a CPU second of each peer, or the reason why it has none."""
    standard_logging.disable(standard_logging.WARNING)  # tensorflow-datasets tells much
    rows = rows_of(batches, 20)
    found: dict[str, Any] = {}
    for name, make in PEERS.items():
        try:
            found[name] = rate(make(rows, folder / name, ROWS), seconds)
        except ImportError as error:
            found[name] = f"not installed: {error}"
    standard_logging.disable(standard_logging.NOTSET)
    return found


def device_wait(workdir: Path, steps: int) -> tuple[float | None, str]:
    """Share of the steps' time in configs/kuairand.py for which the device waited."""
    config = from_config_dict(kuairand.get_config())
    train = dataclasses.replace(config.train, steps=steps, eval_every=0, refit=False)
    config = dataclasses.replace(config, train=train)
    try:
        sequences = open_sequences(config, workdir)
    except DataError as error:
        return None, str(error)
    outcome = train_run(config, workdir / "run", sequences)
    wall = outcome.goodput.wall
    return outcome.goodput.wait_share, f"{wall['wait']:.3f} of {wall['step'] + wall['wait']:.1f} s"


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    events = 2_000_000 if QUICK.value else EVENTS.value
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(FOLDER.value or temporary)
        shared.start(folder)
        built = build(folder, events)
        log = folder / f"log-{events}"
        config = _input_log.config_of(log)
        sequences = open_sequences(config, folder)
        shape = BatchConfig(rows=ROWS, length=LENGTH)
        batches = StreamBatches(sequences, shape, config.labels, ("train",))
        order = np.random.default_rng(0).integers(0, batches.steps_per_epoch, 2**16)
        seconds = 1.0 if QUICK.value else 5.0
        ours = rate(map(batches.batch, itertools.cycle(order.tolist())), seconds)
        peers = peer_rates(batches, seconds, Path(temporary) / "peers")
        share, why = device_wait(Path(temporary) / "kuairand", 60 if QUICK.value else 300)

    table = [{"batches by": "ours", "events / CPU s": round(ours), "speed-up of ours": 1.0}]
    figures: dict[str, Any] = {"events_per_cpu_second": ours}
    for name, value in peers.items():
        known = isinstance(value, float)
        table.append(
            {
                "batches by": name,
                "events / CPU s": round(value) if known else value,
                "speed-up of ours": ours / value if known else None,
            }
        )
        figures[f"speedup_vs_{name}"] = ours / value if known else None
        if not known:
            figures[f"speedup_vs_{name}_reason"] = value
    print(format_table(table))
    figures |= {
        "cache_events": events,
        "cache_events_per_second": events / built["seconds"],
        "cache_cpu_seconds": built["cpu_seconds"],
        "cache_peak_gib": built["peak_gib"],
        "cache_peak_anonymous_gib": built["anonymous_gib"],
        "padding_share": batches.padding_share,
        "device_wait_share": share,
        ("device_wait" if share is not None else "device_wait_share_reason"): why,
    }
    print(
        f"cache: {events / 1e6:g} M events, {figures['cache_events_per_second']:,.0f} "
        f"events/s, peak {built['peak_gib']:.2f} GiB resident, {built['anonymous_gib']:.2f} of it "
        f"not mapped from files; padding {batches.padding_share:.2e}; device wait {share} ({why})"
    )
    if shared.JSON.value:
        write_json(shared.JSON.value, figures)


if __name__ == "__main__":
    shared.run(main)
