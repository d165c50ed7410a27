"""Connects the processes of a run, and defines the exit codes of all programs.

launch/ranks.py finds the address of the first process. A single process opens no port. See
docs/operations.md.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import sys
import threading

import jax
from absl import flags

from negflax import preemption
from negflax.config import ConfigError

from .ranks import Spec, spec_of

EXIT_DONE = 0
EXIT_USER_ERROR = 1  # explained in one line; repeating the command would fail again
EXIT_PREEMPTED = 42  # stopped by a signal, and saved: start again, without counting the restart
EXIT_PEER_LOST = 134  # the code with which JAX ends a process if another one is lost
# 128 + signal: abort (another process is lost), SIGKILL (memory, a lost machine), segmentation
# fault, SIGTERM before handlers were installed. Start again, and count the restart.
EXITS_OF_INFRASTRUCTURE = (EXIT_PEER_LOST, 137, 139, 143)

SHUTDOWN_S = 300  # wait for the other processes to end
SHUTDOWN_PREEMPTED_S = 20  # the same if all of them save and stop
SHUTDOWN_FAILED_S = 3  # the same after an error that the others may not have

NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "Number of processes of the run; default: that of the cluster, or one."
)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")
COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "host:port at which process 0 listens; the same for all processes."
)
LOCAL_DEVICES = flags.DEFINE_list(
    "local_device_ids", None, "Devices of this machine that the process uses; default: all."
)
HEARTBEAT = flags.DEFINE_integer(
    "heartbeat_seconds",
    None,
    "Seconds without a heartbeat after which a process is lost; default: 60.",
)
HEARTBEAT_S = 60


def initialize(several: bool) -> None:
    """Joins the run's other processes and installs signal handlers; called before JAX is used.

    Only the first process prints. A single process opens no port.

    Args:
      several: whether the program runs on several processes.

    Raises:
      ConfigError: see `spec_of`; or there are several processes, and the program supports one.
    """
    given = {
        name: str(value)
        for name, value in (
            ("num_processes", NUM_PROCESSES.value),
            ("process_id", PROCESS_ID.value),
            ("coordinator_address", COORDINATOR.value),
            ("local_device_ids", LOCAL_DEVICES.value and ",".join(LOCAL_DEVICES.value)),
        )
        if value not in (None, "")
    }
    tpu = bool(glob.glob("/dev/accel*") or glob.glob("/dev/vfio/*"))
    tpu = tpu and importlib.util.find_spec("libtpu") is not None
    spec = spec_of(given, os.environ, tpu)
    store, index, count = None, 0, 1
    if spec.count > 1 and not several:
        raise ConfigError(
            f"this program runs in one process, but the environment sets {spec.count} (see "
            "launch/ranks.py): start it once, with NEGFLAX_NUM_PROCESSES=1"
        )
    if spec.count > 1 or spec.detection:
        store, index, count = _join(spec)
    preemption.install(_leave_preempted, store, index, count)
    if index:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends


def _join(spec: Spec) -> tuple[preemption.Store, int, int]:
    """Returns (store, index, count) of jax.distributed."""
    heartbeat = HEARTBEAT.value or int(os.environ.get("NEGFLAX_HEARTBEAT_SECONDS", HEARTBEAT_S))
    timeouts = {
        "heartbeat_timeout_seconds": heartbeat,
        "shutdown_timeout_seconds": SHUTDOWN_S,
        "initialization_timeout": int(os.environ.get("NEGFLAX_START_SECONDS", 300)),
    }
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    if spec.detection:
        jax.distributed.initialize(cluster_detection_method=spec.detection, **timeouts)
    else:
        loopback = spec.address.rsplit(":", 1)[0] in ("localhost", "127.0.0.1")
        jax.distributed.initialize(
            spec.address,
            spec.count,
            spec.index,
            spec.local_device_ids,
            cluster_detection_method="deactivate",  # else JAX uses one GPU per Slurm task
            coordinator_bind_address=spec.address if loopback else None,
            **timeouts,
        )
    from jax._src import distributed  # no public name for the store

    state = distributed.global_state
    return state.client, state.process_id, state.num_processes


def _leave_preempted() -> None:
    print(f"preempted: {preemption.NOTHING_LOST}", flush=True)
    if jax.distributed.is_initialized():
        leave(EXIT_PREEMPTED)
    os._exit(EXIT_PREEMPTED)


def code_of(error: Exception) -> int:
    """Returns the exit code of an error that is not a user error."""
    lost = isinstance(error, jax.errors.JaxRuntimeError) and jax.distributed.is_initialized()
    return EXIT_PEER_LOST if lost else EXIT_USER_ERROR


def leave(code: int | str | None) -> None:
    """Ends the process; one of several waits for the others, up to a limit."""
    sys.stdout.flush()
    sys.stderr.flush()
    if not jax.distributed.is_initialized():
        sys.exit(code)
    if isinstance(code, str):
        print(code, file=sys.stderr, flush=True)
        code = EXIT_USER_ERROR
    thread = threading.Thread(target=_shut_down, daemon=True)
    thread.start()
    thread.join(
        {EXIT_DONE: SHUTDOWN_S, EXIT_PREEMPTED: SHUTDOWN_PREEMPTED_S}.get(
            code or EXIT_DONE, SHUTDOWN_FAILED_S
        )
    )
    os._exit(code or EXIT_DONE)


def _shut_down() -> None:
    with contextlib.suppress(Exception):
        jax.distributed.shutdown()
