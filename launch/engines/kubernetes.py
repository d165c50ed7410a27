"""Functions shared by JobSet and TrainJob: manifests, containers and kubectl.

Kubernetes expands $(NAME) in a container's command and arguments, and reads $$ as $.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .job import Job

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"


def manifest(tree: dict[str, Any]) -> str:
    """Returns the object as YAML, with its keys in the given order."""
    return yaml.safe_dump(tree, sort_keys=False, width=100)


def metadata(job: Job) -> dict[str, Any]:
    """Returns name, namespace and labels; for Kueue the queue is a label."""
    labels = dict(job.labels)
    if job.queue:
        labels[QUEUE_LABEL] = job.queue
    return {"name": job.name, "namespace": job.namespace} | ({"labels": labels} if labels else {})


def literal(word: str) -> str:
    """Returns the word so that Kubernetes passes it unchanged."""
    return word.replace("$", "$$")


def command(job: Job) -> list[str]:
    """Returns the container's command; `python` is that of the image."""
    return ["python", *map(literal, job.program())]


def resources(job: Job, name: str) -> dict[str, Any]:
    """Returns the devices of a container; `name` is their resource; none on CPUs."""
    return {"limits": {name: job.devices_per_node}} if job.accelerator else {}


def volumes(job: Job) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the volumes of the pod and the mounts of its container, from --volume."""
    claim, path = job.mount()
    volume = {"name": "shared", "persistentVolumeClaim": {"claimName": claim}}
    return [volume], [{"name": "shared", "mountPath": path}]


def field(name: str, path: str) -> dict[str, Any]:
    """Returns an environment variable whose value is a field of the pod."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def kubectl(job: Job, *arguments: str) -> list[str]:
    """Returns a kubectl command in the job's namespace."""
    return ["kubectl", f"--namespace={job.namespace}", *arguments]


def apply(job: Job, path: Path) -> list[str]:
    """Applies the manifest; a field that the cluster does not know is an error."""
    return kubectl(job, "apply", "--validate=strict", f"--filename={path}")
