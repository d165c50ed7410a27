"""The batch of a step that could not be trained: <workdir>/skipped/batch-STEP.npz, to look at it.

`python -m launch.replay --workdir=… --batch=FILE` trains that step alone.
"""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from negflax.data import Batch, StreamBatches
from negflax.files import write_arrays
from negflax.processes import from_first

SKIPPED = "skipped"
_STEP = "step"  # in the file, beside the batch's arrays


def save_batch(workdir: str | Path, batches: StreamBatches, step: int) -> Path:
    """Writes the batch that step number `step` trained, counted from 1, of all processes' rows."""
    batch = batches.batch(step - 1)
    if jax.process_count() > 1:
        batch = multihost_utils.process_allgather(batch, tiled=True)
    path = Path(workdir) / SKIPPED / f"batch-{step}.npz"
    arrays = {name: x for name, x in batch._asdict().items() if x is not None}
    from_first(lambda: write_arrays(path, arrays | {_STEP: np.int32(step)}))
    return path


def load_batch(path: str | Path) -> tuple[int, Batch]:
    """(number of the step, its batch).

    Raises:
      ValueError: the file is none of `save_batch`.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return int(arrays.pop(_STEP)), Batch(**arrays)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise ValueError(f"{path} is not a batch that a run has skipped: {error}") from error
