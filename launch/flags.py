"""Flags and start-up shared by the programs."""

from __future__ import annotations

import contextlib
import importlib
import logging as standard_logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import config_flags
from ml_collections.config_flags import tuple_parser

from negflax.allocator import keep_memory
from negflax.config import ConfigError, parse_tuple
from negflax.data import DataError
from negflax.evaluate import EvaluationError
from negflax.files import cannot_write
from negflax.object_store import CACHE_DIR, is_remote, mirrored, refreshed, written
from negflax.preemption import Preempted
from negflax.processes import FirstFailedError, is_first
from negflax.serve import ModelError
from negflax.train.checkpoint import CheckpointError

from . import cluster

USER_ERRORS = (
    CheckpointError,
    ConfigError,
    DataError,
    EvaluationError,
    FirstFailedError,
    ModelError,
)
JSON = flags.DEFINE_string("json", "", "Write the printed figures to this file.")
IMPORT = flags.DEFINE_multi_string(
    "import", [], "Module that registers your own objective or encoder (docs/extending.md)."
)
CACHE = flags.DEFINE_string(
    "cache_dir", "", "Folder of local copies of runs on object stores; $NEGFLAX_CACHE_DIR."
)
FOLDERS = ("workdir", "init_from", "resume_from")  # flags that may be addresses in object stores
OUTPUTS = ("json", "html", "out")


class _TupleParser(tuple_parser.TupleParser):
    """Parses tuples, also from plain text: --config.labels.negative="returned: 2; rating <= 2".

    ml_collections requires this class, as such a flag may be given several times.
    """

    def parse(self, argument: Any) -> tuple[Any, ...]:
        """Returns the tuple that the text of a flag denotes."""
        return parse_tuple(argument) if isinstance(argument, str) else super().parse(argument)


config_flags.register_flag_parser_for_type(tuple, _TupleParser())


def start(workdir: str | Path) -> None:
    """Logs progress to the terminal and caches compiled programs.

    The cache is <workdir>/compilation_cache, or $JAX_COMPILATION_CACHE_DIR if that is set.
    """
    logging.set_verbosity(logging.INFO if is_first() else logging.WARNING)
    standard_logging.getLogger("jax").setLevel(standard_logging.WARNING)
    logging.get_absl_handler().setFormatter(None)
    if not jax.config.jax_compilation_cache_dir:
        cache = Path(workdir).resolve() / "compilation_cache"
        jax.config.update("jax_compilation_cache_dir", str(cache))


def run(
    main: Callable[[list[str]], None],
    *,
    several: bool = False,
    trains: bool = False,
    copies: bool = True,
) -> None:
    """Runs a program and exits by the codes of `cluster`.

    An error that the user can fix is printed as one line, without a traceback.

    Args:
      main: the program.
      several: whether it runs on several processes.
      trains: whether it trains into --workdir.
      copies: whether runs on object stores get a local copy.
    """

    def main_of(argv: list[str]) -> None:
        code = cluster.EXIT_DONE
        try:
            keep_memory()
            cluster.initialize(several)
            import_modules(IMPORT.value)
            with local_folders(trains) if copies else contextlib.nullcontext():
                main(argv)
        except USER_ERRORS as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            code = cluster.EXIT_USER_ERROR
        except Preempted as reason:
            print(f"preempted: {reason}")
            code = cluster.EXIT_PREEMPTED
        except SystemExit as leaving:
            code = leaving.code
        except Exception as error:
            if told := cannot_write(error):
                print(f"OSError: {told}", file=sys.stderr)
            else:
                traceback.print_exc()
            code = cluster.code_of(error)
        cluster.leave(code)

    app.run(main_of, flags_parser=_parse)


@contextlib.contextmanager
def local_folders(trains: bool) -> Iterator[None]:
    """Within the block, flags that name folders and files of object stores name local copies."""
    if CACHE.value:
        os.environ[CACHE_DIR] = CACHE.value
    follows = "follow" in flags.FLAGS and flags.FLAGS.follow
    with contextlib.ExitStack() as stack:

        def local(name: str, value: str) -> str:
            if not is_remote(value):
                return value
            if name in OUTPUTS and not (name == "out" and follows):
                return stack.enter_context(written(value))
            if follows and name == "workdir":
                return str(stack.enter_context(refreshed(value)))
            trained = trains and name == "workdir"
            return str(stack.enter_context(mirrored(value, trains=trained)))

        for name in (*FOLDERS, *OUTPUTS):
            value = flags.FLAGS[name].value if name in flags.FLAGS else None
            if isinstance(value, list):
                flags.FLAGS[name].value = [local(name, part) for part in value]
            elif value and is_remote(value):  # responsiveness takes several, separated by commas
                parts = value.split(",") if name == "workdir" else [value]
                flags.FLAGS[name].value = ",".join(local(name, part) for part in parts)
        yield


def import_modules(names: list[str]) -> None:
    """Imports the modules that --import names, also from the current folder.

    Raises:
      ConfigError: there is no such module.
    """
    for name in names:
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module exists, but another one that it imports does not
            raise ConfigError(
                f"--import={name}: there is no module {error.name!r} in this folder or among the "
                "installed packages; give its name as an import statement does, without .py"
            ) from error


def _parse(argv: list[str]) -> list[str]:
    for argument in argv:  # ml_collections would notice it only when the config is first used
        found = re.fullmatch(r"--?config=([^:]+)(:.*)?", argument)
        if found and not Path(found[1]).exists():
            sys.exit(f"ConfigError: --config={found[1]}: there is no such file")
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError) as error:  # from ml_collections
        told = _unknown_setting(str(error), argv)
        if not told:
            raise
        sys.exit(f"ConfigError: {told}")


def _unknown_setting(message: str, argv: list[str]) -> str:
    """Returns a clear message for an unknown setting, from that of ml_collections, or ""."""
    names = re.findall(r"['\"](\w+)\\?['\"]", message)
    for argument in argv:
        key = argument.split("=")[0].lstrip("-")
        if names and key.startswith("config.") and names[0] in key.split("."):
            near = [name for name in names if name != names[0]]
            return f"{key} is not a setting" + (f"; did you mean `{near[0]}`?" if near else "")
    return ""
