"""Programs of launch/ within the test's process, as imports and start-up cost seconds each time."""

import contextlib
import importlib
import json
import sys
from unittest import mock

import jax
from absl import flags

OPTIMIZE_LITTLE = "jax_disable_most_optimizations"


def run(name, *arguments, devices=1):
    """`python -m launch.NAME ARGUMENTS` on few devices, with flags of its own as in a process."""
    some, before = jax.devices()[:devices], jax.config.read(OPTIMIZE_LITTLE)
    argv = [name, *map(str, arguments)]  # config flags look into sys.argv for their overrides
    with (
        fresh_flags(),
        mock.patch.object(sys, "argv", argv),
        mock.patch.object(jax, "devices", lambda: some),
    ):
        # The shared start-up sets a compilation cache for the whole process, other tests too.
        shared = importlib.import_module("launch.flags")
        shared.start = lambda workdir: None
        program = importlib.import_module(f"launch.{name}")
        rest = flags.FLAGS(argv)
        jax.config.update(OPTIMIZE_LITTLE, True)  # these programs run for milliseconds
        try:
            shared.import_modules(shared.IMPORT.value)
            with shared.local_folders(trains=name in ("train", "sweep", "study")):
                program.main(rest)
        finally:
            jax.config.update(OPTIMIZE_LITTLE, before)


@contextlib.contextmanager
def fresh_flags():
    """No program's flags but those of the one that is imported next; afterwards as before."""

    def programs():
        return [m for m in sys.modules if m.split(".")[0] in ("launch", "benchmarks")]

    modules = {module: sys.modules.pop(module) for module in programs()}
    by_module = flags.FLAGS.flags_by_module_dict()
    away = [(m, flag) for m, found in by_module.items() if m in modules for flag in found]
    for _, flag in away:
        delattr(flags.FLAGS, flag.name)
    known = set(flags.FLAGS)
    try:
        yield
    finally:
        for flag in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, flag)
        for module, flag in away:
            flags.FLAGS[flag.name] = flag
            flags.FLAGS.register_flag_by_module(module, flag)
        flags.FLAGS.unparse_flags()
        for module in programs():
            del sys.modules[module]
        sys.modules.update(modules)


def figures(path):
    return json.loads(path.read_text())
