"""The config of a run as it lies in its folder: <workdir>/config.json.

With it stand the format version of the checkpoints and the modules of registered names. A run that
is restarted has to be the same run, so its config is compared with the stored one first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import logging

from negflax.config import (
    ENCODERS,
    FORMAT_VERSION,
    OBJECTIVES,
    Config,
    ConfigError,
    from_config_dict,
    to_dict,
)
from negflax.data.tabular import is_named_by_content
from negflax.files import write_json

CONFIG = "config.json"
# Settings that a restart may change: what is trained does not depend on them.
FREE = {
    "batch.prefetch",
    "data.cache_dir",
    "mesh.data",
    "mesh.table",
    "mesh.rows",
    "mesh.lookup",
    "train.checkpoint_every",
    "train.checkpoint_minutes",
    "train.keep_latest",
    "train.log_every",
    "train.loggers",
    "train.max_skipped",
}

AFTER_TRAINING = "calibration."  # the section that is about what follows training


class CheckpointError(ValueError):
    """A checkpoint is missing, unreadable or of another run; the message says what to do."""


def compare_config(workdir: str | Path, config: Config, *, accept_change: bool = False) -> None:
    """Checks a config against the one that the folder holds, if any.

    Args:
      workdir: folder of the run.
      config: what it is to go on with.
      accept_change: differences are told, and no error.

    Raises:
      CheckpointError: the folder holds a run with other settings than the `FREE` ones; the message
        names them with both values.
    """
    if not (Path(workdir) / CONFIG).exists():
        return
    changes = differences(workdir, config)
    if changes and not accept_change:
        raise CheckpointError(
            f"{workdir} holds a run with another config ({', '.join(changes)}): use another "
            "--workdir, delete this one, or accept the change: launch.train --accept_config_change"
        )
    for change in changes:
        logging.warning("the run continues with a changed setting: config.%s", change)


def differences(workdir: str | Path, config: Config) -> list[str]:
    """`key: old → new` of the settings, but for `FREE`, in which a run has another config.

    Raises:
      CheckpointError: see `read_config`.
    """
    old, new = (_flat(to_dict(one)) for one in (read_config(workdir), config))
    return [
        f"{key}: {old[key]!r} → {new[key]!r}"
        for key in new
        if new[key] != old[key] and key not in FREE and not key.startswith(AFTER_TRAINING)
    ]


def write_config(workdir: str | Path, config: Config, *, accept_change: bool = False) -> None:
    """Stores the config; where one is stored, see `compare_config`.

    Raises:
      CheckpointError: as compare_config.
    """
    compare_config(workdir, config, accept_change=accept_change)
    chosen = ((OBJECTIVES, config.loss.objective), (ENCODERS, config.model.encoder))
    stored = {
        "format_version": FORMAT_VERSION,
        "config": to_dict(config),
        "registered_by": {x.key: x.modules[name] for x, name in chosen if name in x.modules},
    }
    write_json(Path(workdir) / CONFIG, stored)


def read_config(workdir: str | Path) -> Config:
    """The config of a run.

    Raises:
      CheckpointError: none there, damaged, or of another format version; or its objective or
        encoder is not registered, and the message names the module to import.
    """
    path = Path(workdir) / CONFIG
    if not path.exists():
        raise CheckpointError(f"{path} does not exist: --workdir must name the folder of a run")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, error) from error
    if not isinstance(stored, dict):
        raise _damaged(path, "it is not a JSON object")
    if stored.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {stored.get('format_version')}, this negflax reads "
            f"{FORMAT_VERSION}: use the release that wrote it, or train again"
        )
    values = stored.get("config")
    if not isinstance(values, dict) or not isinstance(values.get("train", {}), dict):
        raise _damaged(path, "it has no `config`")
    if "hubs" in values.get("train", {}):  # the former name
        values["train"]["loggers"] = values["train"].pop("hubs")
    _check_registered(values, stored.get("registered_by", {}))
    _find_own_data(values.get("data"), Path(workdir))
    try:
        return from_config_dict(values)
    except ConfigError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _find_own_data(data: Any, workdir: Path) -> None:
    """Lets a run that was moved or copied find the tables that `fit` wrote into its folder.

    They are named after their content, so a file of this name is the right one.
    """
    for key in ("path", "items_path"):
        path = data.get(key) if isinstance(data, dict) else None
        if isinstance(path, str) and is_named_by_content(path):
            own = workdir.resolve() / "data" / Path(path).name
            if own.exists():
                data[key] = str(own)


def _damaged(path: Path, why: Any) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged ({why}): restore it from a copy, or delete it and give the training "
        "command of the run again, which writes it anew"
    )


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by `section.key`."""
    flat = {}
    for section, values in config.items():
        if isinstance(values, dict):
            flat |= {f"{section}.{key}": value for key, value in values.items()}
        else:
            flat[section] = values
    return flat


def _check_registered(values: Mapping[str, Any], modules: Mapping[str, str]) -> None:
    """Whether the names of the run's own objective and encoder are known, before `check` asks.

    Another module than at training may hold another function under the same name; a script or
    notebook, `__main__`, may be what has become a module since.
    """
    for registry in (OBJECTIVES, ENCODERS):
        section, key = registry.key.split(".")
        name, module = values.get(section, {}).get(key), modules.get(registry.key)
        if module is not None and not registry.accepts(name):
            raise CheckpointError(registry.missing(name, module))
        if module is not None and (moved := registry.moved(name, module)):
            if "__main__" not in (module, registry.modules[name]):
                raise CheckpointError(
                    f"{moved}: import {module} instead; or, if both are the same code, write "
                    f"the new name under `registered_by` in the run's {CONFIG}"
                )
            logging.warning("%s: the run continues with the latter", moved)
