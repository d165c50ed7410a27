"""Metric writers: one JSON line a step, always, and TensorBoard beside it."""

from __future__ import annotations

import json
from pathlib import Path

from tensorboardX import SummaryWriter

from negflax.files import write_text


class MetricWriter:
    """Appends to <workdir>/metrics.jsonl and <workdir>/tensorboard."""

    def __init__(self, workdir: Path, first_step: int = 0):
        """Lines of `first_step` and later are dropped: a resumed run writes them again."""
        self._path = Path(workdir) / "metrics.jsonl"
        kept = [line for line in read_metrics(workdir) if line["step"] <= first_step]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = open(self._path, "a", buffering=1)
        self._board = SummaryWriter(str(Path(workdir) / "tensorboard"), purge_step=first_step + 1)

    def write(self, step: int, kind: str, values: dict[str, float]) -> None:
        """One line {"step", "kind", …}; kind is `train` or `valid`."""
        known = {k: v for k, v in values.items() if v is not None}
        self._file.write(json.dumps({"step": step, "kind": kind} | known) + "\n")
        for name, value in known.items():
            # TensorBoard's names have no @.
            self._board.add_scalar(f"{kind}/{name.replace('@', '_at_')}", value, step)

    def close(self) -> None:
        """Flushes both."""
        self._file.close()
        self._board.close()


def read_metrics(workdir: Path) -> list[dict]:
    """The lines of metrics.jsonl; a last line that was cut off by a crash is left out."""
    path = Path(workdir) / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines if line]
