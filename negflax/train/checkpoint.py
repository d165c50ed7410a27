"""Checkpoints: Orbax behind a few calls, and what lies beside them in the working folder.

<workdir>/config.json       the config, its format version, the modules of registered names
<workdir>/catalogue.npz     the vocabulary
<workdir>/checkpoints/STEP  the training state (layout: negflax.train.state) and its fingerprints
<workdir>/unreadable/STEP   a checkpoint that a resumed run could not restore, and went on without
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers as policies

from negflax.config import (
    ENCODERS,
    FORMAT_VERSION,
    OBJECTIVES,
    Config,
    ConfigError,
    from_config_dict,
    to_dict,
)
from negflax.files import write_json
from negflax.train.fingerprint import fingerprints

FINGERPRINTS = "fingerprints"  # item of a checkpoint beside its state
VOCABULARY = "vocabulary"


class CheckpointError(ValueError):
    """A checkpoint is missing, unreadable or of another run; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """What makes a state mean what it meant when it was saved.

    Attributes:
      vocabulary: which item each row is: `Catalogue.fingerprint`.
      num_rows: V of each table, without padding.
    """

    vocabulary: int
    num_rows: Mapping[str, int]

    def of(self, state: Any) -> dict[str, int]:
        """Fingerprints of the vocabulary and of every array of a state or a part of it."""
        return {VOCABULARY: self.vocabulary} | fingerprints(state, self.num_rows)


class Checkpoints:
    """The checkpoints of one run.

    Attributes:
      metric: validation metric that names the best one.
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

        With an identity, fingerprints are saved, and what is restored is compared with them.
        """
        folder = Path(workdir).resolve() / "checkpoints"
        if read_only and not folder.is_dir():
            raise CheckpointError(f"{folder} does not exist: train first, or check --workdir")
        self.metric, self._sign = metric, -1 if lower_is_better else 1

        def score(metrics: dict[str, float]) -> float:
            return self._sign * metrics[metric]

        best = policies.BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            # max_to_keep with best_fn would delete the latest one.
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(keep_latest), best]
            ),
            best_fn=score,  # without it Orbax stores no metrics; the policy above decides
            read_only=read_only,
            create=not read_only,
        )
        _check_metrics(folder)
        handlers = {
            "state": ocp.PyTreeCheckpointHandler(),
            FINGERPRINTS: ocp.JsonCheckpointHandler(),
        }
        self._manager = ocp.CheckpointManager(folder, options=options, item_handlers=handlers)
        self._folder, self._read_only, self._identity = folder, read_only, identity
        self._metrics = {step: self._manager.metrics(step) for step in self.steps()}

    def save(self, step: int, state: dict[str, Any], metrics: dict[str, float] | None) -> None:
        """Copies the state off the devices and writes it in the background.

        Raises:
          ConfigError: there are metrics, but not the one that names the best checkpoint.
        """
        if metrics is not None and self.metric not in metrics:
            raise ConfigError(
                f"config.train.metric = {self.metric!r} is not measured; choose from "
                f"{', '.join(sorted(metrics))}"
            )
        if metrics is not None and metrics[self.metric] is None:
            metrics = None  # undefined in this validation: no claim to be the best
        items = {"state": ocp.args.PyTreeSave(state)}
        if self._identity:
            items[FINGERPRINTS] = ocp.args.JsonSave(self._identity.of(state))
        self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics)
        self._metrics[step] = metrics

    def restore(self, step: int, target: Any) -> Any:
        """The checkpoint of that step, as the arrays of `target`.

        Args:
          step: one of `steps()`.
          target: tree of jax.ShapeDtypeStruct with shardings; may be a part of the saved tree. A
            leading axis that was rounded up for another device count is cut or padded.

        Raises:
          CheckpointError: it cannot be read, or is not what was saved.
        """
        restore_args = jax.tree.map(
            lambda x: ocp.ArrayRestoreArgs(
                sharding=x.sharding, global_shape=x.shape, dtype=x.dtype, strict=False
            ),
            target,
        )
        args = ocp.args.PyTreeRestore(item=target, restore_args=restore_args, partial_restore=True)
        try:
            state = self._manager.restore(step, args=ocp.args.Composite(state=args))["state"]
            self._compare(step, state)
        except Exception as error:  # Orbax raises that very class where a chunk is damaged
            reason = str(error).split(". See full")[0][:300]
            raise CheckpointError(
                f"{self._folder / str(step)} cannot be restored: {reason}"
            ) from error
        return state

    def restore_first(self, which: str, target: Any) -> tuple[int, Any]:
        """(step, state) of what `which` names, or where that cannot be read of the next in line.

        In line stand, for `latest`, the earlier ones, and for `best` the next best. A step that is
        named by its number has no substitute. A run that is not read-only moves what it could not
        read to <workdir>/unreadable, since it will save that step again.

        Raises:
          CheckpointError: none can be read; or see `choose`.
        """
        first_error = None
        for step in self._in_line(which):
            try:
                state = self.restore(step, target)
            except CheckpointError as error:
                first_error = first_error or error
                logging.warning("%s", error)
                continue
            if first_error:
                logging.warning("falling back to the checkpoint of step %d", step)
                self._move_later_ones(step)
            return step, state
        raise first_error

    def steps(self) -> list[int]:
        """Steps on disk, ascending."""
        return sorted(self._manager.all_steps())

    def best(self) -> tuple[int, dict[str, float]] | None:
        """(step, metrics) of the best validated checkpoint; of equals the earliest."""
        found = [(s, m) for s, m in self._metrics.items() if m and m.get(self.metric) is not None]
        return max(found, key=lambda x: (self._sign * x[1][self.metric], -x[0]), default=None)

    def choose(self, which: str) -> int:
        """The step that `latest`, `best` or a number names.

        Raises:
          CheckpointError: there is none of that name; the message lists those on disk.
        """
        return self._in_line(which)[0]

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _in_line(self, which: str) -> list[int]:
        """`choose`, and what stands in for it, in order."""
        steps = self.steps()
        if not steps:
            raise CheckpointError(f"{self._folder} holds no finished checkpoint yet")
        if which == "latest":
            return steps[::-1]
        if which == "best":
            return sorted(steps, key=self._merit, reverse=True)
        if which.isdigit() and int(which) in steps:
            return [int(which)]
        raise CheckpointError(
            f"checkpoint {which!r} is not in {self._folder}: choose latest, best or one of {steps}"
        )

    def _merit(self, step: int) -> tuple:
        """Order: validated ones by their metric, the earliest of equals, then the newest."""
        value = (self._metrics.get(step) or {}).get(self.metric)
        return (False, 0.0, step) if value is None else (True, self._sign * value, -step)

    def _compare(self, step: int, state: Any) -> None:
        if not self._identity or not (self._folder / str(step) / FINGERPRINTS).exists():
            return
        args = ocp.args.Composite(**{FINGERPRINTS: ocp.args.JsonRestore()})
        saved = self._manager.restore(step, args=args)[FINGERPRINTS]
        for name, value in self._identity.of(state).items():
            if saved[name] != value:
                raise ValueError(
                    f"{name} is not what was saved: "
                    + ("catalogue.npz is another run's" if name == VOCABULARY else "damaged")
                )

    def _move_later_ones(self, step: int) -> None:
        """What is newer than the step, which is then saved anew."""
        if self._read_only:
            return
        for bad in [s for s in self.steps() if s > step]:
            place = self._folder.parent / "unreadable" / str(bad)
            place.parent.mkdir(exist_ok=True)
            (self._folder / str(bad)).rename(place)
            self._metrics.pop(bad, None)
        self._manager.reload()


def _check_metrics(folder: Path) -> None:
    """Orbax reads them all at once, and does not say which file is damaged."""
    for path in folder.glob("[0-9]*/metrics/metrics"):
        try:
            json.loads(path.read_text())
        except FileNotFoundError:
            pass  # just deleted
        except ValueError as error:
            raise CheckpointError(
                f"{path} is damaged: delete {path.parents[1]} to go on with the other checkpoints"
            ) from error


def abstract_state(state: Any, shardings: Any) -> Any:
    """The restore target: shapes and dtypes of a state or its eval_shape, and where each goes."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        state,
        shardings,
    )


def compare_config(workdir: Path, config: Config) -> None:
    """Checks a config against the one that the folder holds, if any.

    Raises:
      CheckpointError: the folder holds another run; the message names the keys that differ.
    """
    if not (Path(workdir) / "config.json").exists():
        return
    old, new = to_dict(read_config(workdir)), to_dict(config)
    differ = [
        f"{section}.{key}" if isinstance(values, dict) else section
        for section, values in new.items()
        for key in (values if isinstance(values, dict) else [""])
        if (values[key] != old[section][key] if key else values != old[section])
    ]
    if differ:
        raise CheckpointError(
            f"{workdir} holds a run with another config ({', '.join(differ)}): "
            "use another --workdir, or delete this one"
        )


def write_config(workdir: Path, config: Config) -> None:
    """Stores the config, or checks it against the one that is there.

    Raises:
      CheckpointError: as compare_config.
    """
    compare_config(workdir, config)
    chosen = ((OBJECTIVES, config.loss.objective), (ENCODERS, config.model.encoder))
    stored = {
        "format_version": FORMAT_VERSION,
        "config": to_dict(config),
        "registered_by": {x.key: x.modules[name] for x, name in chosen if name in x.modules},
    }
    write_json(Path(workdir) / "config.json", stored)


def read_config(workdir: Path) -> Config:
    """The config of a run.

    Raises:
      CheckpointError: none there, or of another format version; or its objective or encoder is not
        registered, and the message names the module to import.
    """
    path = Path(workdir) / "config.json"
    if not path.exists():
        raise CheckpointError(f"{path} does not exist: --workdir must name the folder of a run")
    try:
        stored = dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): restore it from a copy") from error
    if stored.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {stored.get('format_version')}, this negflax reads "
            f"{FORMAT_VERSION}: use the release that wrote it, or train again"
        )
    values = stored["config"]
    if "hubs" in values.get("train", {}):  # the former name
        values["train"]["loggers"] = values["train"].pop("hubs")
    _check_registered(values, stored.get("registered_by", {}))
    return from_config_dict(values)


def _check_registered(values: Mapping[str, Any], modules: Mapping[str, str]) -> None:
    """Whether the names of the run's own objective and encoder are known, before `check` asks."""
    for registry in (OBJECTIVES, ENCODERS):
        section, key = registry.key.split(".")
        name, module = values.get(section, {}).get(key), modules.get(registry.key)
        if module is not None and not registry.accepts(name):
            raise CheckpointError(registry.missing(name, module))
