"""Which engine sorts an event log by user and time in bounded memory: pyarrow, polars or duckdb.

  python -m benchmarks.out_of_core --json=out_of_core.json    # 20 M events, about a minute
  python -m benchmarks.out_of_core --quick                    # 2 M events

The log is that of benchmarks/input_pipeline.py. `negflax` is negflax.data.parts.partition, checks
of every cell and search for duplicates included; `polars, by parts` does the same without checks;
`polars, sort` is its streaming sort, `duckdb` its external sort within 2 GB. Each runs in a process
of its own and writes what it sorted. An engine that is not installed gets the reason.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from absl import app, flags

from benchmarks._input_log import write_log
from negflax.files import write_json

QUICK = flags.DEFINE_boolean("quick", False, "2 M events.")
JSON = flags.DEFINE_string("json", "", "Write the printed figures to this file.")
PARTS = 10


def negflax(log: Path, out: Path) -> None:
    from negflax.data import event_files, parts

    names = event_files.event_files(str(log))
    chunks = event_files.event_chunks(names, event_files.CHUNK_EVENTS)
    parts.partition(chunks, event_files.count_events(names), out, "log")


def polars_by_parts(log: Path, out: Path) -> None:
    import polars as pl

    part = (pl.col("user_id").hash() % PARTS).alias("part")
    events = pl.scan_parquet(log / "*.parquet").with_columns(part)
    events.sink_ipc(pl.PartitionBy(out, key="part", include_key=False), mkdir=True)
    for folder in sorted(out.iterdir()):
        events = pl.read_ipc(folder / "*").sort("user_id", "timestamp_ms", maintain_order=True)
        events.write_ipc(out / f"{folder.name}.arrow")


def polars_sort(log: Path, out: Path) -> None:
    import polars as pl

    events = pl.scan_parquet(log / "*.parquet")
    events.sort("user_id", "timestamp_ms", maintain_order=True).sink_ipc(out / "sorted.arrow")


def duckdb(log: Path, out: Path) -> None:
    import duckdb as engine

    connection = engine.connect()
    connection.execute(f"set memory_limit = '2GB'; set temp_directory = '{out}/spill'")
    connection.execute(
        f"copy (select * from read_parquet('{log}/*.parquet') order by user_id, timestamp_ms) "
        f"to '{out}/sorted.parquet' (format parquet, compression uncompressed)"
    )


ENGINES: dict[str, Callable[[Path, Path], None]] = {
    "negflax (pyarrow, numpy)": negflax,
    "polars, by parts": polars_by_parts,
    "polars, sort": polars_sort,
    "duckdb": duckdb,
}


def child(name: str, log: str) -> None:
    """Sorts with one engine and prints its figures as JSON."""
    begin, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as out:
        ENGINES[name](Path(log), Path(out))
        figures = {
            "seconds": time.perf_counter() - begin,
            "cpu_seconds": time.process_time() - cpu,
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }
    print(json.dumps(figures))


def main(argv: list[str]) -> None:
    """See the module."""
    if len(argv) == 3:
        child(*argv[1:])
        return
    events, found = 2_000_000 if QUICK.value else 20_000_000, {}
    with tempfile.TemporaryDirectory() as folder:
        write_log(Path(folder), events)
        for name in ENGINES:
            command = [sys.executable, "-m", "benchmarks.out_of_core", name, folder]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                found[name] = {"reason": done.stderr.strip().split("\n")[-1]}
                print(f"{name:26s} {found[name]['reason']}")
                continue
            found[name] = json.loads(done.stdout.strip().split("\n")[-1])
            print(
                f"{name:26s} {events / found[name]['seconds'] / 1e6:6.2f} M events/s  "
                f"{found[name]['cpu_seconds'] / events * 1e6:5.2f} CPU µs/event  "
                f"peak {found[name]['peak_gib']:.2f} GiB"
            )
    if JSON.value:
        write_json(JSON.value, {"events": events} | found)


if __name__ == "__main__":
    app.run(main)
