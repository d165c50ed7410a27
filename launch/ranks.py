"""Where a process finds the others of its run: by flags and environment alone.

Number of processes, number of this one and address of the first one, each from the first that says
it: the flags; NEGFLAX_NUM_PROCESSES, NEGFLAX_PROCESS_ID and NEGFLAX_COORDINATOR_ADDRESS; the same
with JAX_ (Kubeflow sets them); an indexed Kubernetes job; SkyPilot; Slurm, within srun; JAX's own
detection of TPU machines and Open MPI. Where nothing says a number, there is one process.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from negflax.config import ConfigError

PORT = 8476  # of the first process, where an address names none
_NAMES = ("num_processes", "process_id", "coordinator_address", "local_device_ids")


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
