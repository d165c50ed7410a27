"""From a ConfigDict or nested mapping to the frozen config."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Any

from negflax.config.checks import check
from negflax.config.errors import ConfigError
from negflax.config.run import Config


def from_config_dict(values: Any) -> Config:
    """Builds the frozen config from a ConfigDict or nested mapping, and checks it.

    Raises:
      ConfigError: an unknown key, a wrong type or a value out of range, named by its key.
    """
    if hasattr(values, "to_dict"):
        values = values.to_dict()
    config = _build(Config, values, "")
    check(config)
    return config


def _build(cls: type, values: Mapping[str, Any], prefix: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"config.{prefix.rstrip('.')} is a section: give it a mapping")
    types = typing.get_type_hints(cls)
    for key in values:
        if key not in types:
            near = difflib.get_close_matches(key, types, n=1)
            hint = f"did you mean `{prefix}{near[0]}`?" if near else f"known: {', '.join(types)}"
            raise ConfigError(f"config.{prefix}{key} is not a setting; {hint}")
    return cls(**{k: _convert(types[k], v, f"{prefix}{k}") for k, v in values.items()})


def _convert(kind: Any, value: Any, key: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, f"{key}.")
    if typing.get_origin(kind) is tuple:
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise ConfigError(f"config.{key} is a tuple: write ({value!r},)")
        element = typing.get_args(kind)[0]
        return tuple(_convert(element, v, key) for v in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"config.{key} = {value!r}: expected {kind.__name__}")
    return value
