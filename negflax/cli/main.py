"""`negflax NAME …`: the programs of launch/ wherever negflax is installed; `negflax train FILE`.

A --config is a file, or the name of one that comes with negflax: --config=synthetic.
"""

from __future__ import annotations

import importlib.util
import re
import runpy
import sys
from pathlib import Path

from negflax.cli import train_file
from negflax.config import ConfigError, shipped_path
from negflax.data import DataError
from negflax.files import cannot_write

PROGRAMS = {"inspect": "inspect_data"} | {
    name: name
    for name in ("train", "evaluate", "recommend", "inspect_data", "prepare", "plan", "simulate")
    + ("sweep", "study")
}
HELP = """\
negflax: sequential recommenders that learn from negative feedback

  negflax train ratings.csv --like="stars >= 4" --dislike="stars <= 2"
                      train on a file of events; its columns are guessed (negflax train --help)
  negflax train --config=synthetic --workdir=runs/synthetic
                      train with a config: a file, or the name of one shipped with negflax
  negflax recommend --workdir=runs/ratings --events=ratings.csv --k=10
                      write lists for the users of a log
  negflax evaluate --workdir=runs/ratings
                      evaluate a checkpoint
  negflax inspect --config=synthetic
                      show how a config interprets its data
  negflax prepare | plan | sweep | study | simulate
                      the other programs; each lists its flags with --help"""


def main() -> None:
    """Runs the program that the first argument names; what the user can mend is told in a line."""
    name, arguments = (sys.argv[1:2] or ["--help"])[0], sys.argv[2:]
    if name in ("-h", "--help", "help"):
        print(HELP)
        return
    if name not in PROGRAMS:
        sys.exit(f"negflax: `{name}` is not a command; choose from {', '.join(PROGRAMS)}")
    try:
        if name == "train" and not any(re.match("--?config(=|$)", one) for one in arguments):
            arguments = train_file.prepared(arguments)
        arguments = [_with_path(argument) for argument in arguments]
    except (ConfigError, DataError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except OSError as error:
        if told := cannot_write(error):
            sys.exit(f"OSError: {told}")
        raise
    sys.argv = [f"negflax {name}", *arguments]
    runpy.run_module(f"{_package()}.{PROGRAMS[name]}", run_name="__main__", alter_sys=False)


def _package() -> str:
    """Where the programs are: in negflax, as a wheel has them, or in launch/ of the repository."""
    found = importlib.util.find_spec("negflax.launch")
    if found is None and importlib.util.find_spec("launch") is None:
        sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    return "launch" if found is None else "negflax.launch"


def _with_path(argument: str) -> str:
    """--config=NAME with the path of the shipped config; any other argument as it is."""
    match = re.fullmatch(r"--config=(\w+)(:.*)?", argument)
    if match is None or Path(match[1]).exists():
        return argument
    return f"--config={shipped_path(match[1])}{match[2] or ''}"
