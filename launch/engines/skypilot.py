"""SkyPilot: a managed job, which finds machines in any cloud and recovers preempted ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from negflax.config import ConfigError

from . import kubernetes, shell
from .job import Job

RUN = """\
first="$(echo "$SKYPILOT_NODE_IPS" | head -n 1)"
export JAX_COORDINATOR_ADDRESS="$first:{port}"
export JAX_NUM_PROCESSES="$SKYPILOT_NUM_NODES"
export JAX_PROCESS_ID="$SKYPILOT_NODE_RANK"
"""


def render(job: Job) -> dict[str, str]:
    """Returns the task.

    Raises:
      ConfigError: the job asks for what a managed job does not do.
    """
    if job.array or job.topology or job.num_slices > 1:
        raise ConfigError("--engine=skypilot runs one job without TPU slices or arrays")
    resources: dict[str, Any] = {
        "use_spot": True,
        "job_recovery": {
            "max_restarts_on_errors": job.max_restarts,
            "recover_on_exit_codes": [shell.EXIT_PREEMPTED],
        },
    }
    if job.accelerator:
        resources["accelerators"] = f"{job.device}:{job.devices_per_node}"
    if job.image:
        resources["image_id"] = f"docker:{job.image}"
    tree: dict[str, Any] = {"name": job.name, "num_nodes": job.nodes, "resources": resources}
    if job.volume:
        name, path = job.mount()
        tree["volumes"] = {path: name}
    if not job.image:  # the working folder travels, and is installed there
        tree |= {"workdir": ".", "setup": "python3 -m pip install --quiet ."}
    run = RUN.format(port=shell.PORT) if job.nodes > 1 else ""
    python = "python" if job.image else "python3"
    tree["run"] = f"{run}{shell.words([python, *job.program()])}\n"
    return {f"{job.name}.yaml": kubernetes.manifest(tree)}


def submit(job: Job, folder: Path) -> list[str]:
    """Submits to the jobs controller; sky reads the values of secrets from its environment."""
    secrets = [word for name in job.secrets for word in ("--secret", name)]
    if any("." in name or "-" in name for name in job.secrets):
        raise ConfigError("--secrets: names of environment variables, for --engine=skypilot")
    path = str(folder / f"{job.name}.yaml")
    return ["sky", "jobs", "launch", "--yes", "--detach-run", f"--name={job.name}", *secrets, path]


def status(job: Job, folder: Path) -> list[str]:
    """Shows all managed jobs, as sky cannot show a single one by name."""
    del job, folder
    return ["sky", "jobs", "queue"]


def logs(job: Job, folder: Path) -> list[str]:
    """Shows the output."""
    del folder
    return ["sky", "jobs", "logs", "--no-follow", f"--name={job.name}"]


def cancel(job: Job, folder: Path) -> list[str]:
    """Ends it and its machines."""
    del folder
    return ["sky", "jobs", "cancel", "--yes", f"--name={job.name}"]
