"""The processes of a run: how they find each other, and how they end.

What says how many processes there are, which one this is and where the first one listens, the
first that says it: the flags; NEGFLAX_NUM_PROCESSES, NEGFLAX_PROCESS_ID and
NEGFLAX_COORDINATOR_ADDRESS; the same with JAX_ (Kubeflow sets them); an indexed Kubernetes job;
SkyPilot; Slurm, within srun; JAX's own detection of TPU machines and Open MPI. Where nothing does,
there is one process, which opens no port: docs/operations.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import importlib.util
import os
import re
import sys
import threading
from collections.abc import Mapping

import jax
from absl import flags

from negflax import preemption
from negflax.config import ConfigError

EXIT_DONE = 0
EXIT_USER_ERROR = 1  # told in one line; the same command fails again
EXIT_PREEMPTED = 42  # asked to leave, and saved: the same command goes on, and no try is counted
EXIT_PEER_LOST = 134  # as JAX itself ends a process whose run has lost another
# 128 + signal: abort (a peer is gone), SIGKILL (memory, a lost machine), segmentation fault,
# SIGTERM before handlers were in place. The same command goes on, and the try is counted.
EXITS_OF_INFRASTRUCTURE = (EXIT_PEER_LOST, 137, 139, 143)

PORT = 8476  # of the coordinator, where an address names none
SHUTDOWN_S = 300  # for the others to end as well
SHUTDOWN_PREEMPTED_S = 20  # the same where all of them save and leave
SHUTDOWN_FAILED_S = 3  # the same after an error, which the others may not have

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


@dataclasses.dataclass(frozen=True)
class Spec:
    """How a process joins its run.

    Attributes:
      count: processes.
      index: this one.
      address: host:port of the first one; empty with one process.
      local_device_ids: devices of the machine that are this process's; None: all that it sees.
      detection: JAX's own rule that finds the rest; empty: none.
    """

    count: int = 1
    index: int = 0
    address: str = ""
    local_device_ids: tuple[int, ...] | None = None
    detection: str = ""


def spec_of(given: Mapping[str, str], env: Mapping[str, str], tpu: bool = False) -> Spec:
    """The process's place, by flags and environment alone.

    Args:
      given: flags that were set, of num_processes, process_id, coordinator_address and
        local_device_ids.
      env: the environment.
      tpu: this machine has TPUs.

    Raises:
      ConfigError: part of what is needed is missing, or cannot be.
    """
    rules = (
        given,
        {
            name: env[f"NEGFLAX_{name.upper()}"]
            for name in _NAMES
            if f"NEGFLAX_{name.upper()}" in env
        },
        {name: env[f"JAX_{name.upper()}"] for name in _NAMES if f"JAX_{name.upper()}" in env},
        _kubernetes(env),
        _skypilot(env),
        _slurm(env),
    )
    found: dict[str, str] = {}
    for rule in rules:
        found = {**rule, **found}
    if "num_processes" not in found:
        return Spec(detection=_detection(env, tpu))
    return _checked(found)


_NAMES = ("num_processes", "process_id", "coordinator_address", "local_device_ids")


def _checked(found: Mapping[str, str]) -> Spec:
    try:
        count = int(found["num_processes"])
        index = int(found.get("process_id", 0 if count == 1 else -1))
        ids = found.get("local_device_ids") or None
        devices = None if ids is None else tuple(int(one) for one in ids.split(","))
    except ValueError as error:
        raise ConfigError(f"{dict(found)}: {error}: write whole numbers") from error
    if not 0 <= index < count:
        raise ConfigError(
            f"process {found.get('process_id', '(unknown)')} of {count}: give --process_id or "
            "NEGFLAX_PROCESS_ID, from 0 to one less than the number of processes"
        )
    address = found.get("coordinator_address", "")
    if count > 1 and not address:
        raise ConfigError(
            f"{count} processes need --coordinator_address or NEGFLAX_COORDINATOR_ADDRESS: "
            "host:port of process 0, the same for all"
        )
    if count == 1:
        return Spec(local_device_ids=devices)
    if not re.search(r":\d+$", address):
        address = f"{address}:{PORT}"
    return Spec(count, index, address, devices)


def _kubernetes(env: Mapping[str, str]) -> dict[str, str]:
    """An indexed job; of several in a JobSet, each counts its own processes from 0."""
    if "JOB_COMPLETION_INDEX" not in env:
        return {}
    index, job = int(env["JOB_COMPLETION_INDEX"]), int(env.get("NEGFLAX_JOB_INDEX") or 0)
    hosts = int(env.get("NEGFLAX_HOSTS_PER_JOB") or 0)
    if job and not hosts:
        raise ConfigError("NEGFLAX_JOB_INDEX needs NEGFLAX_HOSTS_PER_JOB: processes of each job")
    return {"process_id": str(job * hosts + index)}


def _skypilot(env: Mapping[str, str]) -> dict[str, str]:
    ips = env.get("SKYPILOT_NODE_IPS", "").split()
    if len(ips) < 2:
        return {}
    return {
        "num_processes": str(len(ips)),
        "process_id": env["SKYPILOT_NODE_RANK"],
        "coordinator_address": ips[0],
    }


def _slurm(env: Mapping[str, str]) -> dict[str, str]:
    """A step of srun; the batch script itself is one process, which sees SLURM_PROCID as well."""
    if not env.get("SLURM_STEP_ID", "").isdigit() or "SLURM_PROCID" not in env:
        return {}
    count = env.get("SLURM_STEP_NUM_TASKS") or env.get("SLURM_NTASKS", "1")
    # Ports above those that systems give to clients; steps of one job may run side by side.
    port = 61440 + (int(env["SLURM_JOB_ID"]) * 16 + int(env["SLURM_STEP_ID"])) % 4096
    host = _first_host(env.get("SLURM_STEP_NODELIST") or env["SLURM_JOB_NODELIST"])
    found = {
        "num_processes": count,
        "process_id": env["SLURM_PROCID"],
        "coordinator_address": f"{host}:{port}",
    }
    ids = _slurm_devices(env)
    return found | ({"local_device_ids": ids} if ids else {})


def _slurm_devices(env: Mapping[str, str]) -> str:
    """This task's part of the GPUs that all tasks of its node see; empty: all that it sees.

    With one task on a node all are its own (JAX would take the first alone). With --gpus-per-task
    or --gpu-bind a task sees only its own, counted from 0 (JAX would take the one of its number).
    """
    if any(env.get(f"SLURM_{name}") for name in ("GPUS_PER_TASK", "TRES_PER_TASK", "GPU_BIND")):
        return ""
    per_node = [
        int(size)
        for size, times in re.findall(
            r"(\d+)(?:\(x(\d+)\))?", env.get("SLURM_STEP_TASKS_PER_NODE", "1")
        )
        for _ in range(int(times or 1))
    ]
    node = int(env.get("SLURM_NODEID", 0))
    tasks = per_node[node] if node < len(per_node) else 1
    seen = [one for one in env.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
    share = len(seen) // tasks
    if tasks == 1 or not share:
        return ""
    first = int(env.get("SLURM_LOCALID", 0)) * share
    return ",".join(str(first + i) for i in range(share))


def _first_host(nodes: str) -> str:
    """Of Slurm's lists, such as node[001,007-015],other2."""
    before, number, after = re.match(r"([^,\[]*)(?:\[([^\],-]+)[^\]]*\])?([^,]*)", nodes).groups()
    return before + (number or "") + after


def _detection(env: Mapping[str, str], tpu: bool) -> str:
    """The name of JAX's rule that suits this machine."""
    if tpu and (env.get("TPU_PROCESS_ADDRESSES") or env.get("TPU_WORKER_HOSTNAMES")):
        return "gketpu"
    if tpu and "TPU_SKIP_MDS_QUERY" not in env:
        return "gcetpu"
    return "ompi" if "OMPI_MCA_orte_hnp_uri" in env else ""


def initialize(several: bool) -> None:
    """Joins the run's other processes, and handles signals: for programs, before they use JAX.

    Only the first process prints. Where there is one process, no port is opened.

    Args:
      several: whether the program runs on several processes.

    Raises:
      ConfigError: see `spec_of`; or there are several, and the program runs on one.
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
            f"this program runs in one process, and the environment says {spec.count} (see "
            "launch/cluster.py): start it once, with NEGFLAX_NUM_PROCESSES=1"
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
            cluster_detection_method="deactivate",  # else JAX takes one GPU a Slurm task
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
    """The exit code of an error that is no user's: what a lost peer causes is tried again."""
    lost = isinstance(error, jax.errors.JaxRuntimeError) and jax.distributed.is_initialized()
    return EXIT_PEER_LOST if lost else EXIT_USER_ERROR


def leave(code: int | str | None) -> None:
    """Ends the process; of several, with a bounded wait for the others and no handlers at exit."""
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
