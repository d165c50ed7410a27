"""Eight virtual CPU devices for every test; a one-device mesh takes the first of them.

Tests compile far more than they compute, so LLVM is told to optimise nothing and XLA, where it lets
itself be told, to do without its fusion emitters, here and in the programs that tests start: half
of the time of the whole suite. What took long to compile is kept for the session, in a folder of
this process alone. A slow machine may leave one of the eight devices without a core for long, so
that the others wait for it longer than XLA's 40 seconds.
"""

import importlib.metadata
import os
import tempfile

OLDER = importlib.metadata.version("jaxlib").startswith("0.10.")  # an unknown flag ends the process

os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_backend_optimization_level=0",
        "--xla_cpu_use_fusion_emitters=false" if OLDER else "",
        "--xla_cpu_collective_call_warn_stuck_timeout_seconds=300",
        "--xla_cpu_collective_call_terminate_timeout_seconds=900",
    ]
)

import jax  # noqa: E402
import pytest  # noqa: E402

COMPILED = tempfile.TemporaryDirectory(prefix="negflax-compiled-")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", COMPILED.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def pytest_unconfigure():
    COMPILED.cleanup()


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Programs of a test file go with it: a third of the memory of a test process, or more."""
    yield
    jax.clear_caches()
