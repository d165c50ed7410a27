"""Metric writers: one JSON line a step, always, TensorBoard beside it, loggers when asked."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path

from tensorboardX import SummaryWriter

from negflax.config import ConfigError
from negflax.files import write_text

Log = Callable[[int, dict[str, float]], None]


class MetricWriter:
    """Appends to <workdir>/metrics.jsonl and <workdir>/tensorboard, and to the named loggers."""

    def __init__(self, workdir: Path, first_step: int = 0, loggers: tuple[str, ...] = ()):
        """Lines of later steps than `first_step` are dropped: a resumed run writes them again.

        Args:
          workdir: folder of the run.
          first_step: step that the run starts or resumes from.
          loggers: any of `LOGGERS`; each needs its package (extra `loggers`).

        Raises:
          ConfigError: a logger's package is not installed.
        """
        self._loggers = [_open_logger(name, Path(workdir)) for name in loggers]
        self._path = Path(workdir) / "metrics.jsonl"
        kept = [line for line in read_metrics(workdir) if line["step"] <= first_step]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = open(self._path, "a", buffering=1)
        self._board = SummaryWriter(str(Path(workdir) / "tensorboard"), purge_step=first_step + 1)

    def write(self, step: int, kind: str, values: dict[str, float]) -> None:
        """One line {"step", "kind", …}; kind is `train` or `valid`."""
        known = {k: v for k, v in values.items() if v is not None}
        self._file.write(json.dumps({"step": step, "kind": kind} | known) + "\n")
        named = {f"{kind}/{_plain(k)}": v for k, v in known.items()}
        for name, value in named.items():
            self._board.add_scalar(name, value, step)
        for log, _ in self._loggers:
            log(step, named)

    def close(self) -> None:
        """Flushes and ends them all."""
        self._file.close()
        self._board.close()
        for _, end in self._loggers:
            end()


def _plain(name: str) -> str:
    """The name in letters that TensorBoard and MLflow accept: `dcg@10/lambda=2` has two others."""
    return re.sub(r"[^-/.\w]", "_", name.replace("@", "_at_"))


def _wandb(workdir: Path) -> tuple[Log, Callable[[], None]]:
    run = importlib.import_module("wandb").init(project="negflax", dir=str(workdir))
    return lambda step, values: run.log(values, step=step), run.finish


def _mlflow(workdir: Path) -> tuple[Log, Callable[[], None]]:
    mlflow = importlib.import_module("mlflow")
    mlflow.start_run(run_name=workdir.name)
    return lambda step, values: mlflow.log_metrics(values, step=step), mlflow.end_run


LOGGERS = {"wandb": _wandb, "mlflow": _mlflow}


def _open_logger(name: str, workdir: Path) -> tuple[Log, Callable[[], None]]:
    try:
        return LOGGERS[name](workdir)
    except ImportError as error:
        raise ConfigError(
            f"config.train.loggers: {name!r} is not installed: pip install negflax[loggers]"
        ) from error


def read_metrics(workdir: Path) -> list[dict]:
    """The lines of metrics.jsonl; a last line that was cut off by a crash is left out."""
    path = Path(workdir) / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines if line]
