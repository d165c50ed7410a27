"""Engines run a job: they render files and give the commands of the tool that they use.

negflax has no scheduler: Slurm, Kueue, Kubeflow, Google Cloud and SkyPilot queue, place and restart
jobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from . import jobset, local, skypilot, slurm, tpu_vm, trainjob
from .job import Job

Command = list[str]  # run as it is, without a shell


class Engine(Protocol):
    """The functions of an engine, which is a module of this folder."""

    def render(self, job: Job) -> Mapping[str, str]:
        """Returns file name → text; ConfigError if the engine cannot run such a job."""

    def submit(self, job: Job, folder: Path) -> Command:
        """Returns the command that submits the files in the folder."""

    def status(self, job: Job, folder: Path) -> Command:
        """Returns the command that shows the state of the job."""

    def logs(self, job: Job, folder: Path) -> Command:
        """Returns the command that shows the output of the job."""

    def cancel(self, job: Job, folder: Path) -> Command:
        """Returns the command that ends the job."""


ENGINES: dict[str, Engine] = {
    "local": local,
    "slurm": slurm,
    "jobset": jobset,
    "trainjob": trainjob,
    "tpu_vm": tpu_vm,
    "skypilot": skypilot,
}
