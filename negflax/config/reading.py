"""From a ConfigDict or nested mapping, or from text, to the frozen config."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import re
import typing
from collections.abc import Mapping
from typing import Any

from negflax.config.checks import check
from negflax.config.config import Config
from negflax.config.errors import ConfigError


def from_config_dict(values: Any) -> Config:
    """Builds the frozen config from a ConfigDict or nested mapping, and checks it.

    A tuple may be given as text: "like, rating >= 4" is ("like", "rating >= 4").

    Raises:
      ConfigError: an unknown key, a wrong type or a value out of range, named by its key.
    """
    if hasattr(values, "to_dict"):
        values = values.to_dict()
    config = _build(Config, values, "")
    check(config)
    return config


def parse_tuple(text: str) -> tuple[Any, ...]:
    """The tuple that a text means: as Python writes it, or words between commas or semicolons.

    >>> parse_tuple("('like', 'rating >= 4')"), parse_tuple("returned: 2; reason == 'a, b'")
    (('like', 'rating >= 4'), ('returned: 2', "reason == 'a, b'"))
    """
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        separator = ";" if re.search(_outside_quotes(";"), text) else ","
        parts = re.split(_outside_quotes(separator), text)
        return tuple(part.strip() for part in parts if part.strip())
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _outside_quotes(separator: str) -> str:
    return rf"{separator}(?=(?:[^']*'[^']*')*[^']*$)"


def _build(cls: type, values: Mapping[str, Any], prefix: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"config.{prefix.rstrip('.')} is a section: give it a mapping")
    kinds = typing.get_type_hints(cls)
    for key in values:
        if key not in kinds:
            near = difflib.get_close_matches(key, kinds, n=1)
            hint = f"did you mean `{prefix}{near[0]}`?" if near else f"known: {', '.join(kinds)}"
            raise ConfigError(f"config.{prefix}{key} is not a setting; {hint}")
    return cls(**{k: _convert(kinds[k], v, f"{prefix}{k}") for k, v in values.items()})


def _convert(kind: Any, value: Any, key: str) -> Any:
    """The value in its setting's type where that is plain; else as it is, and `check` refuses."""
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, f"{key}.")
    if typing.get_origin(kind) is tuple:
        element = typing.get_args(kind)[0]
        if isinstance(value, str):
            value = parse_tuple(value)
        if isinstance(value, (list, tuple)):
            return tuple(_convert(element, one, key) for one in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
