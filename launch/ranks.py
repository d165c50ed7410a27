"""How a process joins the others of its run, from flags and environment variables.

Three values are needed: the number of processes, the number of this one and the address of the
first one. Each is taken from the first of these sources that gives it: the flags;
NEGFLAX_NUM_PROCESSES, NEGFLAX_PROCESS_ID and NEGFLAX_COORDINATOR_ADDRESS; the same variables with
JAX_ (Kubeflow sets them); an indexed Kubernetes job; SkyPilot; Slurm, within srun; JAX's detection
of TPU machines and Open MPI. If no source gives a number of processes, there is one process.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from negflax.config import ConfigError

PORT = 8476  # of the first process, if the address has no port
_NAMES = ("num_processes", "process_id", "coordinator_address", "local_device_ids")


@dataclasses.dataclass(frozen=True)
class Spec:
    """How a process joins its run.

    Attributes:
      count: number of processes.
      index: number of this process.
      address: host:port of the first process; empty if there is only one.
      local_device_ids: devices of the machine that this process uses; None: all visible ones.
      detection: JAX's cluster detection method that finds the other values; empty: none.
    """

    count: int = 1
    index: int = 0
    address: str = ""
    local_device_ids: tuple[int, ...] | None = None
    detection: str = ""


def spec_of(given: Mapping[str, str], env: Mapping[str, str], tpu: bool = False) -> Spec:
    """Returns the process's place in the run.

    Args:
      given: flags that were set, of num_processes, process_id, coordinator_address and
        local_device_ids.
      env: the environment.
      tpu: this machine has TPUs.

    Raises:
      ConfigError: a value is missing or invalid.
    """
    rules = (
        given,
        _named("NEGFLAX_", env),
        _named("JAX_", env),
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


def _named(prefix: str, env: Mapping[str, str]) -> dict[str, str]:
    variables = {name: f"{prefix}{name.upper()}" for name in _NAMES}
    return {name: env[variable] for name, variable in variables.items() if variable in env}


def _checked(found: Mapping[str, str]) -> Spec:
    try:
        count = int(found["num_processes"])
        index = int(found.get("process_id", -1))
        ids = found.get("local_device_ids") or None
        devices = None if ids is None else tuple(int(one) for one in ids.split(","))
    except ValueError as error:
        raise ConfigError(f"{dict(found)}: {error}: write whole numbers") from error
    if count == 1:
        return Spec(local_device_ids=devices)
    if not 0 <= index < count:
        raise ConfigError(
            f"process {found.get('process_id', '(unknown)')} of {count}: give --process_id or "
            "NEGFLAX_PROCESS_ID, from 0 to one less than the number of processes"
        )
    address = found.get("coordinator_address", "")
    if not address:
        raise ConfigError(
            f"{count} processes need --coordinator_address or NEGFLAX_COORDINATOR_ADDRESS: "
            "host:port of process 0, the same for all"
        )
    if not re.search(r":\d+$", address):
        address = f"{address}:{PORT}"
    return Spec(count, index, address, devices)


def _kubernetes(env: Mapping[str, str]) -> dict[str, str]:
    """Values of an indexed job; each job of a JobSet counts its processes from 0."""
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
    """Values of a step of srun. The batch script is one process, and also has SLURM_PROCID."""
    if not env.get("SLURM_STEP_ID", "").isdigit() or "SLURM_PROCID" not in env:
        return {}
    count = env.get("SLURM_STEP_NUM_TASKS") or env.get("SLURM_NTASKS", "1")
    # Ports above those that systems assign to clients; steps of one job may run at the same time.
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
    """Returns this task's share of the GPUs that all tasks of its node see; empty: all it sees.

    A single task on a node uses all of them (JAX would use only the first). With --gpus-per-task
    or --gpu-bind a task sees only its own GPUs, counted from 0 (JAX would use the one that has the
    number of the task).
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
    """Returns the first host of a Slurm list, such as node[001,007-015],other2."""
    before, number, after = re.match(r"([^,\[]*)(?:\[([^\],-]+)[^\]]*\])?([^,]*)", nodes).groups()
    return before + (number or "") + after


def _detection(env: Mapping[str, str], tpu: bool) -> str:
    """Returns the name of JAX's cluster detection method for this machine, or an empty text."""
    if tpu and (env.get("TPU_PROCESS_ADDRESSES") or env.get("TPU_WORKER_HOSTNAMES")):
        return "gketpu"
    if tpu and "TPU_SKIP_MDS_QUERY" not in env:
        return "gcetpu"
    return "ompi" if "OMPI_MCA_orte_hnp_uri" in env else ""
