"""Training throughput beside PyTorch and RecBole, on the same events, one after the other in turn.

  python -m venv peers && peers/bin/pip install torch numpy recbole      # an environment of its own
  python -m benchmarks.training --peers=peers/bin/python --json=training.json   # about 30 minutes
  python -m benchmarks.training --quick                                  # ours alone, one round

Needs ml-1m-sequences under $NEGFLAX_DATA_DIR. Each measurement is a process of its own, in rounds,
so that a busy machine slows all of them; the table has medians over the rounds. A target is an
event that is predicted; CPU seconds are those of all threads of the process during training steps,
without compilation. `sampled` is configs/ml1m_sequences.py (GRU of width 128, 2,048 shared
samples), `full` configs/ml1m_sequences_full.py. What the peers compute: _training_torch.py,
_training_recbole.py.
The roof is a step's matrix products alone, at the same shapes and precision.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags, logging

from configs import ml1m_sequences
from launch import flags as shared
from negflax.config import from_config_dict
from negflax.data import build_sequences, open_source
from negflax.evaluate import format_table
from negflax.files import write_json

PEERS = flags.DEFINE_string(
    "peers", "", "A Python with torch, and recbole if it is to be compared."
)
ROUNDS = flags.DEFINE_integer("rounds", 3, "Measurements of each system.")
ALL_CORES = flags.DEFINE_boolean("all_cores", True, "Also with all cores.")
QUICK = flags.DEFINE_boolean("quick", False, "One round on one thread, negflax alone.")

HERE = Path(__file__).parent
OURS = ("negflax sampled", "negflax full")
TORCH = {
    "PyTorch nn.GRU sampled": "gru",
    "PyTorch nn.GRU full": "gru_full",
    "PyTorch attention full": "attention_full",
}
RECBOLE = "RecBole GRU4Rec"


def write_stream(folder: Path) -> Path:
    """The training events of ml-1m-sequences as the peers read them, and where users begin."""
    config = from_config_dict(ml1m_sequences.get_config())
    sequences = build_sequences(open_source(config, folder), config)
    train_E = sequences.split_E == 0
    path = folder / "stream.npy"
    np.save(path, sequences.item_E[train_E])
    before_E1 = np.append(0, np.cumsum(train_E))
    np.save(folder / "stream_offsets.npy", before_E1[sequences.offsets_U1])
    return path


def measure(system: str, threads: int, stream: Path) -> dict[str, Any]:
    """A row of one system, from a process of its own; with `error` where it cannot run."""
    if system in OURS:
        module = "benchmarks._training_ours"
        command = [sys.executable, "-m", module, system.removeprefix("negflax "), str(threads)]
    elif system == RECBOLE:
        script, folder = HERE / "_training_recbole.py", stream.parent / "recbole"
        command = [PEERS.value, str(script), "gru", str(threads), str(stream), str(folder)]
    else:
        script = HERE / "_training_torch.py"
        command = [PEERS.value, str(script), TORCH[system], str(threads), str(stream)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        logging.warning("%s: %s", system, last)
        return {"error": last}
    return json.loads(done.stdout.strip().splitlines()[-1])


def in_turn(threads: int, stream: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of every system, round by round."""
    systems = [*OURS, *([] if QUICK.value or not PEERS.value else [*TORCH, RECBOLE])]
    rows = defaultdict(list)
    for _ in range(1 if QUICK.value else ROUNDS.value):
        for system in systems:
            rows[system].append(measure(system, threads, stream))
            logging.info("%d thread(s), %s: %s", threads, system, rows[system][-1])
    return rows


def median(rows: list[dict[str, Any]], key: str = "targets_per_cpu_second") -> float | None:
    """Over the rounds that could run."""
    found = [row[key] for row in rows if key in row]
    return statistics.median(found) if found else None


def figures_of(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The figures with fixed names; None where a peer is missing."""
    sampled, full = (median(rows[name]) for name in OURS)
    torch = median(rows.get("PyTorch nn.GRU sampled", []))
    recbole = median(rows.get(RECBOLE, []))
    return {
        "targets_per_cpu_second": sampled,
        "targets_per_cpu_second_full": full,
        "ratio_vs_torch": sampled / torch if torch else None,
        "ratio_vs_recbole": full / recbole if recbole else None,
        "share_of_roof": sampled / median(rows[OURS[0]], "roof"),
        "share_of_roof_full": full / median(rows[OURS[1]], "roof"),
    }


def table_row(system: str, threads: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What is printed of a system."""
    rate, ran = median(rows), [row for row in rows if "error" not in row]
    return {
        "system": system,
        "threads": threads or "all",
        "targets / CPU s": None if rate is None else round(rate),
        "variant": ran[0].get("variant") or ran[0].get("precision", "") if ran else "cannot run",
    }


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    with tempfile.TemporaryDirectory() as folder:
        shared.start(folder)
        stream = write_stream(Path(folder))
        one = in_turn(1, stream)
        every = in_turn(0, stream) if ALL_CORES.value and not QUICK.value else {}
    figures = figures_of(one)
    to_ndcg = subprocess.run(
        [sys.executable, "-m", "benchmarks._training_ours", "to_ndcg_148", "1"],
        capture_output=True,
        text=True,
        check=True,
    )
    figures |= json.loads(to_ndcg.stdout.strip().splitlines()[-1])
    table = [table_row(name, 1, rows) for name, rows in one.items()]
    table += [table_row(name, 0, rows) for name, rows in every.items()]
    print(format_table(table))
    print(format_table([{"figure": k, "value": v} for k, v in figures.items()]))
    if shared.JSON.value:
        write_json(shared.JSON.value, figures | {"one_thread": one, "all_cores": every})


if __name__ == "__main__":
    shared.run(main)
