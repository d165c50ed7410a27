"""RecBole's GRU4Rec on the same events: prints a row as JSON. Needs recbole, not negflax.

  python _training_recbole.py gru 1 STREAM.npy FOLDER

Its own model, loss (cross-entropy over all items), data path and augmentation (an example for each
target), of width 128; histories of 50 items, its default. 32 batches of its default size are timed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

if __name__ == "__main__" and sys.argv[2] == "1":
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402

for old, new in (("float_", np.float64), ("complex_", np.complex128), ("unicode_", np.str_)):
    if not hasattr(np, old):  # names that RecBole 1.2.1 uses and NumPy 2 has dropped
        setattr(np, old, new)

import torch  # noqa: E402
from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.model.sequential_recommender import GRU4Rec  # noqa: E402

WARM_UP, STEPS, USERS = 2, 10, 600


def write_atomic(path: str, folder: Path) -> None:
    """The events of the first users as an atomic file."""
    stream, offsets = np.load(path), np.load(path.replace(".npy", "_offsets.npy"))
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(min(USERS, len(offsets) - 1)):
        events = stream[offsets[user] : offsets[user + 1]]
        lines += [f"u{user}\ti{item}\t{place}" for place, item in enumerate(events)]
    (folder / "log").mkdir(parents=True, exist_ok=True)
    (folder / "log" / "log.inter").write_text("\n".join(lines) + "\n")


def main(path: str, folder: Path) -> dict[str, object]:
    """Targets a CPU second."""
    write_atomic(path, folder)
    settings = {
        "data_path": str(folder),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "embedding_size": 128,
        "hidden_size": 128,
        "num_layers": 1,
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "use_gpu": False,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
        "state": "ERROR",
        "show_progress": False,
    }
    sys.argv = sys.argv[:1]  # RecBole reads the command line as well
    config = Config(model="GRU4Rec", dataset="log", config_dict=settings)
    dataset = create_dataset(config)
    train, _, _ = data_preparation(config, dataset)
    model = GRU4Rec(config, train.dataset)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    start, targets = 0.0, 0
    for step, interaction in enumerate(train):
        if step == WARM_UP:
            start, targets = time.process_time(), 0
        if step == WARM_UP + STEPS:
            break
        optimizer.zero_grad()
        model.calculate_loss(interaction).backward()
        optimizer.step()
        targets += len(interaction)
    return {"targets_per_cpu_second": targets / (time.process_time() - start)}


if __name__ == "__main__":
    if sys.argv[2] == "1":
        torch.set_num_threads(1)
    print(json.dumps(main(sys.argv[3], Path(sys.argv[4]))))
