"""TPU VMs of Google Cloud, as a queued resource whose machines start the program by themselves.

Every machine of the slice runs the start-up script, a loop that starts the container again after a
preemption. The machines run until the resource is deleted with --action=cancel.
"""

from __future__ import annotations

from pathlib import Path

from negflax.config import ConfigError

from . import shell
from .job import Job

RUNTIMES = {  # accelerator type, up to its first hyphen → software of the machines
    "v3": "tpu-ubuntu2204-base",
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
SCRIPT = """\
#!/bin/bash
# Start-up script of {name}, run on every machine of the slice; rendered by launch.submit.
set -u
{mount}restarts=0
while true; do
  docker run --rm --name={name} --privileged --net=host --stop-timeout={grace} {bind}\\
    {image} {program}
  code=$?
  if [ "$code" -ne 0 ] && {{ {restart}; }}; then
    if [ "$code" -ne {preempted} ]; then restarts=$((restarts + 1)); fi
    continue
  fi
  echo "{name} ended with exit code $code"
  exit "$code"
done
"""
MOUNT = """\
mkdir -p {path}
until mountpoint -q {path} || mount -t nfs {source} {path}; do sleep 5; done
"""


def render(job: Job) -> dict[str, str]:
    """Returns the start-up script.

    Raises:
      ConfigError: no image, zone or known accelerator.
    """
    job.need("image", "the container image that holds negflax (see the Dockerfile)")
    job.need("zone", "of the TPU, as us-east5-a")
    if job.accelerator.partition("-")[0] not in RUNTIMES:
        raise ConfigError(
            f"--accelerator={job.accelerator!r}: --engine=tpu_vm needs a type such as v6e-16, "
            f"one of {', '.join(RUNTIMES)}"
        )
    if job.array or job.secrets:
        raise ConfigError("--engine=tpu_vm has no --array and no --secrets: use --engine=jobset")
    source, path = job.mount()
    script = SCRIPT.format(
        name=job.name,
        grace=job.grace_seconds,
        mount=MOUNT.format(source=source, path=path) if source else "",
        bind=f"--volume={path}:{path} " if source else "",
        image=shell.words([job.image]),
        program=shell.words(["python", *job.program()]),
        restart=shell.restart_test("code", "restarts", job.max_restarts),
        preempted=shell.EXIT_PREEMPTED,
    )
    return {f"{job.name}.startup.sh": script}


def submit(job: Job, folder: Path) -> list[str]:
    """Queues the request; several slices are nodes of one resource."""
    path = folder / f"{job.name}.startup.sh"
    if set(str(path)) & set(",="):  # gcloud reads a list of KEY=FILE
        raise ConfigError(
            f"{path}: gcloud does not accept paths with a comma or =; choose another --out"
        )
    nodes = [f"--node-id={job.name}"]
    if job.num_slices > 1:
        nodes = [f"--node-prefix={job.name}", f"--node-count={job.num_slices}"]
    found = [
        *_gcloud("create", job),
        *nodes,
        f"--accelerator-type={job.accelerator}",
        f"--runtime-version={RUNTIMES[job.accelerator.partition('-')[0]]}",
        f"--metadata-from-file=startup-script={path}",
    ]
    if job.time_limit:
        found.append(f"--valid-until-duration={job.time_limit}s")
    return found


def status(job: Job, folder: Path) -> list[str]:
    """Shows the state of the request."""
    del folder
    return _gcloud("describe", job)


def logs(job: Job, folder: Path) -> list[str]:
    """Shows the output of the first machine."""
    del folder
    return [
        "gcloud",
        "compute",
        "tpus",
        "tpu-vm",
        "ssh",
        job.name if job.num_slices == 1 else f"{job.name}-0",
        f"--zone={job.zone}",
        "--worker=0",
        "--command=sudo journalctl --no-pager --lines=200 --unit=google-startup-scripts",
    ]


def cancel(job: Job, folder: Path) -> list[str]:
    """Deletes the request and its machines."""
    del folder
    return [*_gcloud("delete", job), "--force", "--quiet"]


def _gcloud(verb: str, job: Job) -> list[str]:
    return ["gcloud", "compute", "tpus", "queued-resources", verb, job.name, f"--zone={job.zone}"]
