"""Prepares a public data set, or your own logs, for training, and checks the original files.

  python -m launch.prepare --data_set=kuairand/pure --manual_dir=downloads --data_dir=data
  python -m launch.train --config=configs/kuairand_full.py --config.data.root=data --workdir=runs/k

Logs that are too large for one machine are written as Parquet shards of whole users by an Apache
Beam pipeline:

  python -m launch.prepare --data_set=event_logs/mine --manual_dir=logs --data_dir=data \
    --shards=64 --beam="--runner=DirectRunner"
  python -m launch.train --config=configs/event_log.py \
    --config.data.path=data/event_logs/mine/shards

Shards that another tool has written are held to the contract of docs/data_past_one_machine.md:

  python -m launch.prepare --check=data/shards

Without --manual_dir the archive is downloaded if its licence allows that. docs/data_sets.md lists
the data sets and the sources of their files.
"""

from __future__ import annotations

import time
from typing import Any

from absl import flags, logging

from negflax.config import ConfigError
from negflax.data import DataError
from negflax.data.builders import prepared
from negflax.data.shards import check_shards
from negflax.files import write_json

from . import flags as shared

DATA_SET = flags.DEFINE_string("data_set", None, "Builder and variant, such as kuairand/pure.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder that holds all prepared data sets.")
MANUAL_DIR = flags.DEFINE_string("manual_dir", "", "Folder with the original files or archive.")
REGISTER = flags.DEFINE_boolean(
    "register_checksums", False, "Store the checksums of these files, so that they are enforced."
)
BEAM = flags.DEFINE_string(
    "beam", "", "Prepare event_logs/<name> with Apache Beam, with these pipeline options."
)
CHECK = flags.DEFINE_string("check", "", "Only check this folder of shards.")
SHARDS = flags.DEFINE_integer("shards", 16, "With --beam: number of shards.", lower_bound=1)


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    logging.set_verbosity(logging.INFO)
    start = time.monotonic()
    if not CHECK.value and not (DATA_SET.value and DATA_DIR.value):
        raise ConfigError("--data_set and --data_dir are needed, or --check=FOLDER")
    if CHECK.value:
        figures = _checked()
    elif BEAM.value:
        figures = _by_beam()
    else:
        figures = _here()
    seconds = time.monotonic() - start
    print(f"{seconds:.1f} s; train with {figures.pop('train')}")
    if shared.JSON.value:
        write_json(shared.JSON.value, figures | {"seconds": seconds})


def _checked() -> dict[str, Any]:
    figures = check_shards(CHECK.value)
    print(
        f"{CHECK.value}: {figures['events']:,} events of {figures['users']:,} users in "
        f"{figures['shards']} shards, the largest {figures['largest_shard']:.2f} times the mean"
    )
    return figures | {"train": f"--config.data.source=event_log --config.data.path={CHECK.value}"}


def _here() -> dict[str, Any]:
    infos = prepared.prepare(DATA_SET.value, DATA_DIR.value, MANUAL_DIR.value, REGISTER.value)
    print(f"tested on: {infos[0].metadata['tested']}")
    figures: dict[str, Any] = {
        "folder": str(infos[0].data_dir),
        "train": f"--config.data.source={DATA_SET.value} --config.data.root={DATA_DIR.value}",
    }
    for info in infos:
        for split, rows in info.metadata["rows"].items():
            size = info.splits[split].num_bytes
            print(f"{info.full_name}: {split}: {rows:,} rows, {size:,} bytes")
            figures[f"rows/{split}"] = rows
        for file in info.metadata["originals"]:
            print(f"{file['file']}: sha256 {file['sha256'][:12]}…, checksum {file['checksum']}")
    return figures


def _by_beam() -> dict[str, Any]:
    builder, _, name = DATA_SET.value.partition("/")
    if builder != "event_logs" or not name:
        raise DataError(
            f"--data_set={DATA_SET.value}: --beam prepares your own logs only, which are named "
            "event_logs/<name>"
        )
    try:
        from negflax.data.builders import beam
    except ModuleNotFoundError as error:
        raise DataError(f"{error.name} is not installed: pip install 'negflax[beam]'") from error
    out = f"{DATA_DIR.value}/{DATA_SET.value}/shards"
    manifest = beam.run(MANUAL_DIR.value, out, SHARDS.value, BEAM.value.split())
    rows = manifest["rows"]
    print(f"{out}: {sum(rows):,} events in {len(rows)} shards; repairs: {manifest['repairs']}")
    return {
        "folder": out,
        "rows/events": sum(rows),
        "train": f"--config.data.source=event_log --config.data.path={out}",
    }


if __name__ == "__main__":
    shared.run(main)
