"""Eight virtual CPU devices for every test; a one-device mesh takes the first of them.

Tests compile far more than they compute, so LLVM is told to optimise nothing, here and in the
programs that tests start: a third of the time of the whole suite.
"""

import os

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"

import jax  # noqa: E402: reads the flags

jax.config.update("jax_num_cpu_devices", 8)
