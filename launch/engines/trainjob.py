"""TrainJob of Kubeflow Trainer v2, with its runtime `jax-distributed`, which sets JAX's ranks.

The runtime defines restarts and failure policies of pods, and a job cannot change them: a preempted
run counts as a failed one, up to the runtime's limit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from negflax.config import ConfigError

from . import kubernetes
from .job import Job

RUNTIME = "jax-distributed"


def render(job: Job) -> dict[str, str]:
    """Returns the manifest.

    Raises:
      ConfigError: no image, or what the runtime does not do.
    """
    job.need("image", "the container image that holds negflax (see the Dockerfile)")
    if job.array or job.topology or job.num_slices > 1:
        raise ConfigError(
            "--engine=trainjob runs one job on CPUs or GPUs; use --engine=jobset for TPU slices "
            "and arrays"
        )
    if job.secrets:
        raise ConfigError("--secrets: name the Kubernetes secret in the training runtime instead")
    trainer: dict[str, Any] = {
        "image": job.image,
        "command": kubernetes.command(job),
        "numNodes": job.nodes,
    }
    if job.accelerator:
        trainer["resourcesPerNode"] = kubernetes.resources(job, "nvidia.com/gpu")
    pod: dict[str, Any] = {"terminationGracePeriodSeconds": job.grace_seconds}
    if job.accelerator:
        pod["nodeSelector"] = {"cloud.google.com/gke-accelerator": job.device}
    if job.volume:
        pod["volumes"], mounts = kubernetes.volumes(job)
        pod["containers"] = [{"name": "node", "volumeMounts": mounts}]
    node = {"name": "node", "template": {"spec": {"template": {"spec": pod}}}}
    spec: dict[str, Any] = {
        "runtimeRef": {
            "apiGroup": "trainer.kubeflow.org",
            "kind": "ClusterTrainingRuntime",
            "name": RUNTIME,
        },
        "trainer": trainer,
        "runtimePatches": [
            {
                "manager": "negflax.dev/launch",
                "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [node]}}},
            }
        ],
    }
    if job.time_limit:
        spec["activeDeadlineSeconds"] = job.time_limit
    tree = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": kubernetes.metadata(job),
        "spec": spec,
    }
    return {f"{job.name}.yaml": kubernetes.manifest(tree)}


def submit(job: Job, folder: Path) -> list[str]:
    """Creates the job."""
    return kubernetes.apply(job, folder / f"{job.name}.yaml")


def status(job: Job, folder: Path) -> list[str]:
    """Shows the job."""
    del folder
    return kubernetes.kubectl(job, "get", "trainjob", job.name)


def logs(job: Job, folder: Path) -> list[str]:
    """Shows the output of the first node."""
    del folder
    return kubernetes.kubectl(job, "logs", "--tail=200", f"job/{job.name}-node-0")


def cancel(job: Job, folder: Path) -> list[str]:
    """Deletes the job and its pods."""
    del folder
    return kubernetes.kubectl(job, "delete", "trainjob", job.name)
