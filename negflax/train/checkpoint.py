"""Checkpoints, written and read by Orbax, and the other files of a run's folder.

- `config.json`: the config, its format version, the modules of registered names.
- `catalogue.npz`: the vocabulary.
- `checkpoints/STEP`: the training state (layout: negflax.train.state), its fingerprints and, if it
  was validated, its metrics.
- `unreadable/STEP`: a checkpoint that a resumed run could not restore; the run continued from an
  older one.
"""

from __future__ import annotations

import contextlib
import logging as standard_logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils

from negflax.processes import is_first
from negflax.tables.stored import as_stored, plain
from negflax.train import checkpoint_files as files
from negflax.train.checkpoint_files import FINGERPRINTS, METRICS
from negflax.train.fingerprint import VOCABULARY, Identity
from negflax.train.finite import non_finite
from negflax.train.run_config import CheckpointError, compare_config, read_config, write_config
from negflax.train.validations import Validations

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "Identity",
    "NonFiniteError",
    "abstract_state",
    "compare_config",
    "read_config",
    "write_config",
]


def _not_orbax(record: standard_logging.LogRecord) -> bool:
    if "orbax" not in record.pathname:
        return True
    # What it tells with a traceback it raises too, and `Checkpoints` says it in a line.
    return record.levelno >= standard_logging.ERROR and not record.exc_info


class NonFiniteError(CheckpointError):
    """Training met NaN or infinity; the message says where, and what to do."""


class Checkpoints:
    """The checkpoints of one run.

    Attributes:
      metric: validation metric that names the best one.
      folder: <workdir>/checkpoints.
    """

    def __init__(
        self,
        workdir: Path,
        metric: str,
        keep_latest: int = 2,
        *,
        lower_is_better: bool = False,
        read_only: bool = False,
        identity: Identity | None = None,
    ):
        """Opens <workdir>/checkpoints; keeps the newest `keep_latest` and the best.

        With an identity, fingerprints are saved, and what is restored is compared with them; a
        state that is not finite is then neither saved nor, unless read-only, restored.
        """
        # Orbax logs dozens of lines per checkpoint through absl's logger; its errors alone pass.
        logging.get_absl_logger().addFilter(_not_orbax)
        self.metric, self.folder = metric, Path(workdir).resolve() / "checkpoints"
        self._keep, self._read_only, self._identity = keep_latest, read_only, identity
        if read_only and not self.folder.is_dir():
            raise CheckpointError(f"{self.folder} does not exist: train first, or check --workdir")
        self._writing: int | None = None
        self._manager = self._open()
        found = {step: files.read_validation(self._path(step)) for step in self.steps()}
        self._validations = Validations(metric, lower_is_better, found)

    def _open(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self,
            lightweight_initialize=True,  # it reads no metrics: damaged ones would be an error
            cleanup_tmp_directories=not self._read_only,
            read_only=self._read_only,
            create=not self._read_only,
        )
        handlers = {
            "state": ocp.PyTreeCheckpointHandler(),
            FINGERPRINTS: ocp.JsonCheckpointHandler(),
            METRICS: ocp.JsonCheckpointHandler(METRICS),
        }
        return ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any = None) -> list[bool]:
        """For Orbax: which checkpoints stay once another one is written."""
        steps, best = [one.step for one in checkpoints], self.best()
        kept = {*sorted(steps)[-self._keep :], *([best[0]] if best else [])}
        return [step in kept for step in steps]

    def save(self, step: int, state: dict[str, Any], metrics: dict[str, float] | None) -> None:
        """Copies the state off the devices and writes it in the background.

        Raises:
          ConfigError: there are metrics, but not the one that names the best checkpoint.
          NonFiniteError: the state has values that are not finite; nothing was written.
          CheckpointError: it, or the one before it, could not be written; the message says why.
        """
        metrics, state = self._validations.checked(metrics), plain(state)
        items = {"state": ocp.args.PyTreeSave(state)}
        if self._identity:
            if bad := non_finite(state):
                raise NonFiniteError(
                    f"step {step} is not saved: {', '.join(bad)} have values that are not finite. "
                    f"{self._advice()}"
                )
            items[FINGERPRINTS] = ocp.args.JsonSave(self._identity.of(state))
        if metrics is not None:
            items[METRICS] = ocp.args.JsonSave(metrics)
        before, self._validations.found[step] = self._validations.found.get(step), metrics
        with self._told(step):
            saved = self._manager.save(step, args=ocp.args.Composite(**items))
        if not saved:
            self._validations.found[step] = before
            newest = max(self.steps(), default=None)
            raise CheckpointError(
                f"step {step} was not saved: {self._path(newest)} exists, but was not written by "
                "this run. Move it away (it is a copy, or another trainer's), then start again. "
                f"{self._advice()}"
            )
        self._writing = step

    def validated(self, step: int, metrics: dict[str, float] | None) -> None:
        """Adds the metrics of a checkpoint that was saved without, see `save`."""
        if (metrics := self._validations.checked(metrics)) is not None:
            files.write_validation(self._path(step), metrics)
            self._validations.found[step] = metrics

    def metrics(self, step: int) -> dict[str, float] | None:
        """Of a checkpoint; None where it was not validated."""
        return self._validations.found.get(step)

    def restore(self, step: int, target: Any) -> Any:
        """The checkpoint of that step, as the arrays of `target`.

        Args:
          step: one of `steps()`.
          target: tree of jax.ShapeDtypeStruct with shardings; may be a part of the saved tree. A
            leading axis that was rounded up for another device count is cut or padded.

        Raises:
          CheckpointError: it cannot be read, or is not what was saved.
        """
        stored, target = target, plain(target)
        restore_args = jax.tree.map(
            lambda x: ocp.ArrayRestoreArgs(
                sharding=x.sharding, global_shape=x.shape, dtype=x.dtype, strict=False
            ),
            target,
        )
        args = ocp.args.PyTreeRestore(item=target, restore_args=restore_args, partial_restore=True)
        files.say_what_is_missing(self._path(step), self._identity is not None)
        try:
            state = self._manager.restore(step, args=ocp.args.Composite(state=args))["state"]
            self._compare(step, state)
        except Exception as error:  # Orbax raises that very class where a chunk is damaged
            reason = str(error).split(". See full")[0][:300]
            raise CheckpointError(f"{self._path(step)} cannot be restored: {reason}") from error
        return as_stored(state, stored)

    def restore_first(self, which: str, target: Any) -> tuple[int, Any]:
        """(step, state) of what `which` names, or where that cannot be read of the next in line.

        In line stand, for `latest`, the earlier ones, and for `best` the next best. A step that is
        named by its number has no substitute. A run that is not read-only moves what it could not
        read to <workdir>/unreadable, since it will save that step again.

        Raises:
          CheckpointError: none can be read; or see `choose`.
        """
        line = self._validations.in_line(which, self.steps(), self.folder)
        first_error = None
        for step in line:
            state, error = None, None
            try:
                state = self.restore(step, target)
            except CheckpointError as raised:
                error = raised
            if _anywhere(error is not None):  # all processes take the same one
                error = error or CheckpointError(f"{step} cannot be restored by another process")
                first_error = first_error or error
                logging.warning("%s", str(error))  # the error itself would keep arrays alive
                continue
            if first_error:
                logging.warning("falling back to the checkpoint of step %d", step)
                self.set_aside_later(step)
            return step, state
        if len(line) == 1:
            raise first_error
        raise CheckpointError(
            f"none of the {len(line)} checkpoints can be restored. The first: {first_error}. "
            f"Restore {self.folder} from a copy; or move it away and repeat the training "
            "command, which then starts from the beginning, or from another run with --init_from"
        ) from first_error

    def steps(self) -> list[int]:
        """Steps on disk, ascending."""
        return sorted(self._manager.all_steps())

    def best(self) -> tuple[int, dict[str, float]] | None:
        """(step, metrics) of the best validated checkpoint; of equals the earliest."""
        return self._validations.best()

    def choose(self, which: str) -> int:
        """The step that `latest`, `best` or a number names.

        Raises:
          CheckpointError: there is none of that name; the message lists those on disk.
        """
        return self._validations.in_line(which, self.steps(), self.folder)[0]

    def wait(self) -> None:
        """Waits for what is being written.

        Raises:
          CheckpointError: it could not be written.
        """
        with self._told(self._writing):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for what is being written, see `wait`, and ends its threads."""
        try:
            self.wait()
        finally:
            with contextlib.suppress(Exception):  # of what `wait` has raised
                self._manager.close()

    @contextlib.contextmanager
    def _told(self, step: int | None) -> Iterator[None]:
        """An error of the present or the last write, in words."""
        try:
            yield
        except Exception as error:
            late = self._writing  # the write before this one, unless that has come to its end
            late = step if late is None or self._path(late).is_dir() else late
            reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
            if "RESOURCE_EXHAUSTED" in reason:  # as TensorStore says it
                reason = "No space left on device"
            if not self.folder.is_dir():
                reason = "it has vanished"
            if is_first():
                for left in self.folder.glob(f"{late}.orbax-checkpoint-tmp*"):
                    shutil.rmtree(left, ignore_errors=True)
            raise CheckpointError(
                f"the checkpoint of step {late} was not written to {self.folder}: {reason}. Fix "
                "this (free space, permission to write, a mounted disk), then start again. "
                f"{self._advice(late)}"
            ) from error

    def _advice(self, but: int | None = None) -> str:
        whole = [s for s in self._validations.found if s != but and self._path(s).is_dir()]
        newest = max(whole, default=None)
        begins = "from the start" if newest is None else f"from the checkpoint of step {newest}"
        return f"The same command then goes on {begins}"

    def _path(self, step: int | None) -> Path:
        return self.folder / str(step)

    def _compare(self, step: int, state: Any) -> None:
        if not self._identity:
            return
        if not self._read_only and (bad := non_finite(state)):
            raise ValueError(f"{', '.join(bad)} have values that are not finite")
        if not (self._path(step) / FINGERPRINTS).exists():
            return
        args = ocp.args.Composite(**{FINGERPRINTS: ocp.args.JsonRestore()})
        saved = self._manager.restore(step, args=args)[FINGERPRINTS]
        if saved.get("step", step) != step:  # the fingerprint of a single number is that number
            raise ValueError(f"it is a copy of step {saved['step']}")
        for name, value in self._identity.of(state).items():
            if saved[name] != value:
                raise ValueError(
                    f"{name} differs from what was saved: "
                    + ("catalogue.npz belongs to another run" if name == VOCABULARY else "damaged")
                )

    def set_aside_later(self, step: int) -> None:
        """What is newer than the step, which is then saved anew."""
        if self._read_only:
            return
        for bad in [s for s in self.steps() if s > step]:
            files.move_aside(self._path(bad), self.folder.parent / "unreadable")
            self._validations.found.pop(bad, None)
        self._manager.close()
        self._manager = self._open()


def _anywhere(failed: bool) -> bool:
    """Whether it failed on any process."""
    if jax.process_count() == 1:
        return failed
    return bool(np.any(multihost_utils.process_allgather(np.array(failed))))


def abstract_state(state: Any, shardings: Any) -> Any:
    """The restore target: shapes and dtypes of a state or its eval_shape, and where each goes."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        state,
        shardings,
    )
