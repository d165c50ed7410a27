"""Prepares a public data set, or your own logs, for training: once, versioned, checked.

  python -m launch.prepare --data_set=kuairand/pure --manual_dir=downloads --data_dir=data
  python -m launch.train --config=configs/kuairand_full.py --config.data.root=data --workdir=runs/k

Without --manual_dir the archive is downloaded, where its licence allows it. docs/data_sets.md lists
the data sets and where their files come from.
"""

from __future__ import annotations

import time
from typing import Any

from absl import flags, logging

from launch import flags as shared
from negflax.data.builders import prepared
from negflax.files import write_json

DATA_SET = flags.DEFINE_string("data_set", None, "Builder and variant, such as kuairand/pure.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of all prepared data sets.")
MANUAL_DIR = flags.DEFINE_string("manual_dir", "", "Folder with the original files or archive.")
REGISTER = flags.DEFINE_boolean(
    "register_checksums", False, "Keep the checksums of these files with the builders, to enforce."
)


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    logging.set_verbosity(logging.INFO)
    start = time.monotonic()
    infos = prepared.prepare(DATA_SET.value, DATA_DIR.value, MANUAL_DIR.value, REGISTER.value)
    seconds = time.monotonic() - start
    figures: dict[str, Any] = {"seconds": seconds, "folder": str(infos[0].data_dir)}
    for info in infos:
        for split, rows in info.metadata["rows"].items():
            size = info.splits[split].num_bytes
            print(f"{info.full_name}: {split}: {rows:,} rows, {size:,} bytes")
            figures[f"rows/{split}"] = rows
        for file in info.metadata["originals"]:
            print(f"{file['file']}: sha256 {file['sha256'][:12]}…, checksum {file['checksum']}")
    print(f"{seconds:.1f} s; train with --config.data.source={DATA_SET.value} "
          f"--config.data.root={DATA_DIR.value}")  # fmt: skip
    if shared.JSON.value:
        write_json(shared.JSON.value, figures)


if __name__ == "__main__":
    flags.mark_flags_as_required(["data_set", "data_dir"])
    shared.run(main)
