"""Metric writers: one JSON line a step, always, TensorBoard beside it, loggers when asked.

Each is a sink with a thread of its own (background.py): a full disk or a service that hangs costs
metrics, not the run.
"""

from __future__ import annotations

import functools
import importlib
import re
import time
from pathlib import Path
from typing import Any

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from negflax.config import ConfigError
from negflax.train.background import CLOSE_S, Background
from negflax.train.json_lines import JsonLines, read_lines

METRICS = "metrics.jsonl"


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
        workdir = Path(workdir)
        for name in loggers:
            _check_installed(name)

        def keep(line: dict[str, Any]) -> bool:
            return _step(line) is not None and _step(line) <= first_step

        self._lines = Background(METRICS, lambda: JsonLines(workdir / METRICS, keep))
        self._boards = [
            Background("tensorboard", lambda: _Board(workdir / "tensorboard", first_step)),
            *(Background(name, functools.partial(LOGGERS[name], workdir)) for name in loggers),
        ]

    def write(self, step: int, kind: str, values: dict[str, float]) -> None:
        """One line {"step", "kind", …}; kind is `train` or `valid`. Never waits."""
        known = {k: v for k, v in values.items() if v is not None}
        self._lines.write({"step": step, "kind": kind} | known)
        named = {f"{kind}/{_plain(k)}": v for k, v in known.items()}
        for board in self._boards:
            board.write(step, named)

    def close(self) -> None:
        """Flushes and ends them all; what hangs is left behind after `CLOSE_S`."""
        deadline = time.monotonic() + CLOSE_S
        for one in (self._lines, *self._boards):
            one.close(deadline)


def read_metrics(workdir: Path) -> list[dict]:
    """The lines of metrics.jsonl that have a step."""
    return [x for x in read_lines(Path(workdir) / METRICS) if _step(x) is not None]


def _step(line: dict[str, Any]) -> int | None:
    step = line.get("step")
    return step if isinstance(step, int) else None


def _plain(name: str) -> str:
    """The name in letters that TensorBoard and MLflow accept: `dcg@10/lambda=2` has two others."""
    return re.sub(r"[^-/.\w]", "_", name.replace("@", "_at_"))


class _Board:
    """TensorBoard's event file, written at once: a thread of tensorboardX would die of an error."""

    def __init__(self, folder: Path, first_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._events = EventsWriter(str(folder / "events"))
        # What a killed run wrote of later steps is hidden.
        log = SessionLog(status=SessionLog.START)
        self._events.write_event(Event(wall_time=time.time(), step=first_step + 1, session_log=log))

    def write(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            one = summary.scalar(name, value)
            self._events.write_event(Event(wall_time=time.time(), step=step, summary=one))
        self._events.flush()

    def close(self) -> None:
        self._events.close()


class _Wandb:
    def __init__(self, workdir: Path):
        wandb = importlib.import_module("wandb")
        self._run = wandb.init(project="negflax", dir=str(workdir))

    def write(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    def __init__(self, workdir: Path):
        self._mlflow = importlib.import_module("mlflow")
        self._mlflow.start_run(run_name=workdir.name)

    def write(self, step: int, values: dict[str, float]) -> None:
        self._mlflow.log_metrics(values, step=step)

    def close(self) -> None:
        self._mlflow.end_run()


LOGGERS = {"wandb": _Wandb, "mlflow": _Mlflow}


def _check_installed(name: str) -> None:
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"config.train.loggers: {name!r} is not installed: pip install negflax[loggers]"
        ) from error
