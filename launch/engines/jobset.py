"""JobSet on GKE (or any Kubernetes): a Job for each TPU slice, or one for all GPU or CPU machines.

A pod that saves and exits with 42, or whose node is taken away, restarts the set without counting;
exit code 1, an error that the user can mend, ends it; all else counts against --max_restarts.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from negflax.config import ConfigError

from . import kubernetes, shell
from .job import Job

INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
TOPOLOGY = "alpha.jobset.sigs.k8s.io/exclusive-topology"
CONTAINER = "negflax"
COMPUTE_TYPES = {
    "tpu-v6e-slice": "v6e",
    "tpu-v5-lite-podslice": "v5litepod",
    "tpu-v5p-slice": "v5p",
}
CHIPS = 4  # of a TPU machine, unless --accelerator=TYPE:COUNT says otherwise


def render(job: Job) -> dict[str, str]:
    """Returns the manifest.

    Raises:
      ConfigError: no image, or machines that do not make up the topology.
    """
    job.need("image", "the container image that holds negflax (see the Dockerfile)")
    if job.topology:
        job.need("accelerator", "the type of the TPU, as tpu-v6e-slice")
        if ":" not in job.accelerator:
            job = dataclasses.replace(job, accelerator=f"{job.accelerator}:{CHIPS}")
        job.check_topology(job.devices_per_node)
    elif job.num_slices > 1:
        raise ConfigError("--num_slices: only TPUs have slices; give their --topology")
    metadata = kubernetes.metadata(job)
    if job.topology:  # a slice has a node pool of its own
        metadata["annotations"] = {TOPOLOGY: "cloud.google.com/gke-nodepool"}
    tree = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "failurePolicy": {"maxRestarts": job.max_restarts, "rules": RULES},
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "replicatedJobs": [
                {
                    "name": "workers",
                    "replicas": job.num_slices,
                    "template": {"spec": _job_spec(job)},
                }
            ],
        },
    }
    return {f"{job.name}.yaml": kubernetes.manifest(tree)}


# The first rule that matches applies; a failure that no rule matches restarts and is counted.
RULES = [
    {
        "name": "preempted",
        "action": "RestartJobSetAndIgnoreMaxRestarts",
        "onJobFailureReasons": ["PodFailurePolicy"],
        "onJobFailureMessagePatterns": [
            f"exit code {shell.EXIT_PREEMPTED} ",
            "condition DisruptionTarget ",
        ],
    },
    {
        "name": "user_error",
        "action": "FailJobSet",
        "onJobFailureReasons": ["PodFailurePolicy", "DeadlineExceeded"],
    },
]


def _job_spec(job: Job) -> dict[str, Any]:
    pods = job.array or job.nodes
    spec = {
        "parallelism": pods,
        "completions": pods,
        "completionMode": "Indexed",
        "backoffLimit": 0,  # restarts are the set's
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": CONTAINER,
                        "operator": "In",
                        "values": [1, shell.EXIT_PREEMPTED],
                    },
                },
                {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget"}]},
            ]
        },
        "template": {"spec": _pod(job)},
    }
    if job.time_limit:
        spec["activeDeadlineSeconds"] = job.time_limit
    return spec


def _pod(job: Job) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": job.image,
        "command": kubernetes.command(job),
        "env": _environment(job),
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": job.grace_seconds,
        "containers": [container],
    }
    if job.volume:
        pod["volumes"], container["volumeMounts"] = kubernetes.volumes(job)
    if job.array:
        container["command"].append("--sweep_member=$(SWEEP_MEMBER)")
    if job.secrets:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in job.secrets]
    if job.accelerator:
        kind = "tpu" if job.topology else "gpu"
        maker = "google.com" if job.topology else "nvidia.com"
        selector = {f"cloud.google.com/gke-{'tpu-' * (kind == 'tpu')}accelerator": job.device}
        if job.topology:
            selector["cloud.google.com/gke-tpu-topology"] = job.topology
        pod["nodeSelector"] = selector
        container["resources"] = kubernetes.resources(job, f"{maker}/{kind}")
    return pod


def _environment(job: Job) -> list[dict[str, Any]]:
    """Returns the three variables that connect pods; GKE sets those of TPU pods itself."""
    if job.array:
        return [kubernetes.field("SWEEP_MEMBER", INDEX)]
    if job.topology or job.nodes == 1:
        return []
    first = f"{job.name}-workers-0-0.{job.name}:{shell.PORT}"
    return [
        {"name": "JAX_COORDINATOR_ADDRESS", "value": first},
        {"name": "JAX_NUM_PROCESSES", "value": str(job.nodes)},
        kubernetes.field("JAX_PROCESS_ID", INDEX),
    ]


def submit(job: Job, folder: Path) -> list[str]:
    """Creates the set."""
    return kubernetes.apply(job, folder / f"{job.name}.yaml")


def status(job: Job, folder: Path) -> list[str]:
    """Shows the set and its pods."""
    del folder
    return kubernetes.kubectl(
        job, "get", "jobset,pods", f"--selector=jobset.sigs.k8s.io/jobset-name={job.name}"
    )


def logs(job: Job, folder: Path) -> list[str]:
    """Shows the output of the first pod."""
    del folder
    return kubernetes.kubectl(job, "logs", "--tail=200", f"job/{job.name}-workers-0")


def cancel(job: Job, folder: Path) -> list[str]:
    """Deletes the set and its pods."""
    del folder
    return kubernetes.kubectl(job, "delete", "jobset", job.name)


def gcluster(job: Job) -> list[str]:
    """Returns the command of Google's Cluster Toolkit for the same job, which supports one slice.

    Its --mount has to be added.
    """
    command = shell.words(["python", *job.program()])
    kind = job.device or "n2-standard-32"
    if job.topology:  # by its number of chips, as v6e-16
        chips = math.prod(map(int, job.topology.split("x")))
        kind = f"{COMPUTE_TYPES.get(job.device, job.device)}-{chips}"
    found = ["gcluster", "job", "submit", f"--name={job.name}", f"--image={job.image}"]
    found += [f"--command={command}", f"--compute-type={kind}", f"--num-nodes={job.nodes}"]
    return found + ([f"--queue={job.queue}"] if job.queue else [])
