"""Members of a sweep: settings by name, every combination of their values."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from negflax.config import Config, ConfigError
from negflax.loss.objectives import Scalars
from negflax.train.weights import LossWeights

# Settings that are run-time arguments of the step, so that members may differ in them.
RUN_TIME = {
    *(name for name in LossWeights._fields if name != "objective"),
    *(name for name in Scalars._fields if name not in ("sampling_rate", "inverse_temperature")),
    "temperature",
}


def parse_grid(texts: Sequence[str]) -> dict[str, list[str]]:
    """`section.name=v1,v2` → its values, as text.

    Raises:
      ConfigError: a text of another form, a setting that is named twice or a value that is.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        key, _, values = text.partition("=")
        words = values.split(",")
        if not re.fullmatch(r"\w+\.\w+", key) or "" in words:
            raise ConfigError(f"--grid={text}: write it as section.name=value,value")
        if key in found or len(set(words)) < len(words):
            raise ConfigError(f"--grid={text}: give each setting and each value only once")
        found[key] = words
    return found


def grid(config: Config, values: Mapping[str, Sequence[str]]) -> dict[str, Config]:
    """Every combination of the values: name (also of its folder) → config, in a fixed order.

    Raises:
      ConfigError: no such setting, or a value that is not of its type.
    """
    found = {}
    for combination in itertools.product(*values.values()):
        one, words = config, []
        for key, text in zip(values, combination, strict=True):
            one = replaced(one, key, text)
            words.append(f"{key.partition('.')[2]}={text}")
        found[re.sub(r"[^\w.=+-]+", "_", "_".join(words))] = one
    return found


def replaced(config: Config, key: str, text: str) -> Config:
    """The config with one setting from its text; `|` separates the elements of a tuple.

    Raises:
      ConfigError: no such setting, or a value that is not of its type.
    """
    section, _, name = key.partition(".")
    part = getattr(config, section, None)
    if not hasattr(part, name):
        raise ConfigError(f"{key} is not a setting; write section.name, such as loss.omega")
    kind = type(getattr(part, name))
    try:
        value = _value(text, kind)
    except ValueError as error:
        raise ConfigError(f"{key}: {text!r} is not of type {kind.__name__}") from error
    return dataclasses.replace(config, **{section: dataclasses.replace(part, **{name: value})})


def _value(text: str, kind: type) -> Any:
    """Booleans are parsed here, as bool("False") is True."""
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise ValueError(text)
        return text.lower() in ("true", "1")
    return tuple(text.split("|")) if kind is tuple else kind(text)


def runs_together(runs: Mapping[str, Config]) -> list[str]:
    """Settings in which the runs differ though they are compiled in; empty: one program does."""
    first, *others = [dataclasses.asdict(config) for config in runs.values()]
    different = {
        f"{section}.{name}"
        for other in others
        for section, part in first.items()
        if isinstance(part, dict)
        for name, value in part.items()
        if other[section][name] != value
    }
    return sorted(different - {f"loss.{name}" for name in RUN_TIME})
