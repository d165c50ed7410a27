"""Programs of launch/ within the test's process, as imports and start-up cost seconds each time."""

import importlib
import json
import sys
from unittest import mock

import jax
from absl import flags


def run(name, *arguments):
    """`python -m launch.NAME ARGUMENTS` on one device, with flags of its own as in a process."""
    known, one = set(flags.FLAGS), jax.devices()[:1]
    optimize = "jax_disable_most_optimizations"
    slow = jax.config.read(optimize)
    for module in [m for m in sys.modules if m == "launch" or m.startswith("launch.")]:
        del sys.modules[module]
    # Config flags look into sys.argv for their overrides.
    with mock.patch.object(sys, "argv", [name, *map(str, arguments)]), \
         mock.patch.object(jax, "devices", lambda: one):  # fmt: skip
        try:
            jax.config.update(optimize, True)  # these programs run for milliseconds
            # The shared start-up sets a compilation cache for the whole process, other tests too.
            importlib.import_module("launch.flags").start = lambda workdir: None
            program = importlib.import_module(f"launch.{name}")
            flags.FLAGS(sys.argv)
            program.main(sys.argv[:1])
        finally:
            jax.config.update(optimize, slow)
            for flag in set(flags.FLAGS) - known:
                delattr(flags.FLAGS, flag)
            flags.FLAGS.unparse_flags()


def figures(path):
    return json.loads(path.read_text())
