"""Names of objectives and encoders: the built-in ones, and those that users register.

The names are here, in the lowest package, so that a config can be checked without importing a
model; the functions and classes stand in negflax/loss/objectives.py and negflax/model/encoders/.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from negflax.config.errors import ConfigError
from negflax.config.kinds import OneOf


class Registry(OneOf):
    """The names that one setting accepts.

    Attributes:
      key: of the setting, such as `loss.objective`.
      function: which registers a name, such as `negflax.register_objective`.
      traits: name → what the config has to know about it.
      modules: registered name → the module that registered it.
    """

    def __init__(self, key: str, function: str, built_in: Mapping[str, Any]):
        """The setting, what registers, and the built-in names with their traits."""
        super().__init__(*built_in)
        self.key, self.function = key, function
        self.traits: dict[str, Any] = dict(built_in)
        self.modules: dict[str, str] = {}

    def accepts(self, word: str) -> bool:
        """Whether the name is built in or registered."""
        return word in self.traits

    def add(self, name: str, traits: Any, module: str) -> None:
        """Registers a name; the same module may do so again, as when a notebook cell is rerun.

        Raises:
          ConfigError: it is no name, is built in, or belongs to another module.
        """
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][\w.-]*", name):
            raise ConfigError(
                f"{self.function}({name!r}, …): a name must start with a letter, followed by "
                "letters, digits, `_`, `.` or `-`"
            )
        if name in self.words:
            raise ConfigError(f"{self.function}({name!r}, …): that name is built in; use another")
        if self.modules.get(name, module) != module:
            raise ConfigError(
                f"{self.function}({name!r}, …): {self.modules[name]} has already registered that "
                "name; use another"
            )
        self.modules[name] = module
        self.traits[name] = traits

    def unknown(self, name: str) -> str:
        """The message for a name that is not registered."""
        return (
            f"config.{self.key} = {name!r}: {choose_from(name, self.traits)}, or register your own "
            f"first: {self.function}({name!r}, …)"
        )

    def missing(self, name: str, module: str) -> str:
        """The message for a run whose name is not registered, while `module` once did that."""
        call = f"{self.function}({name!r}, …)"
        known = f"config.{self.key} = {name!r} is not registered (known: {', '.join(self.traits)})"
        if module == "__main__":  # a script or notebook, which cannot be imported by that name
            return f"{known}: call {call} before loading, as the program that trained the run did"
        return (
            f"{known}: import {module}, which calls {call}, before loading; give programs "
            f"--import={module}"
        )

    def moved(self, name: str, module: str) -> str | None:
        """The message where another module than `module` registered the name here; else None."""
        here = self.modules.get(name)
        if here is None or here == module:
            return None
        return (
            f"config.{self.key} = {name!r} was registered by {module} when the run was trained, "
            f"and by {here} here"
        )


def choose_from(word: str, words: Iterable[str]) -> str:
    """What to write instead of a word that is not accepted."""
    words = list(words)
    near = difflib.get_close_matches(word, words, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"choose from {', '.join(words)}"


def calling_module() -> str:
    """Name of the module that called the function which calls this one, importable if possible."""
    names = sys._getframe(2).f_globals
    if names.get("__name__") == "__main__" and names.get("__spec__"):  # python -m package.module
        return names["__spec__"].name
    return names.get("__name__", "__main__")
