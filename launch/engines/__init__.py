"""Where a job runs. An engine renders files and names the commands of the tool it stands on.

There is no scheduler of our own: Slurm, Kueue, Kubeflow, Google Cloud and SkyPilot queue, place and
restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from . import jobset, local, skypilot, slurm, tpu_vm, trainjob
from .job import Job

Command = list[str]  # run as it is, without a shell


class Engine(Protocol):
    """What a module of this folder offers."""

    def render(self, job: Job) -> Mapping[str, str]:
        """File name → text; ConfigError where the engine cannot run such a job."""

    def submit(self, job: Job, folder: Path) -> Command:
        """Submits what was rendered into the folder."""

    def status(self, job: Job, folder: Path) -> Command:
        """Shows where the job stands."""

    def logs(self, job: Job, folder: Path) -> Command:
        """Shows what it printed."""

    def cancel(self, job: Job, folder: Path) -> Command:
        """Ends it."""


ENGINES: dict[str, Engine] = {
    "local": local,
    "slurm": slurm,
    "jobset": jobset,
    "trainjob": trainjob,
    "tpu_vm": tpu_vm,
    "skypilot": skypilot,
}
