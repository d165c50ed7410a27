"""Submits a run to a cluster: renders the files, checks that the run fits, and submits.

  python -m launch.submit --engine=slurm --name=first --nodes=2 --workdir=/shared/runs/first \
      --dry_run -- launch.train --config=configs/synthetic.py

The program and its arguments follow `--`, as after `python -m`. --dry_run prints the files and the
command and submits nothing. Later, --action=status, logs or cancel applies to the job with that
--name. Engines: local, slurm, jobset, trainjob, tpu_vm, skypilot (docs/launching.md).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from absl import flags

from negflax.config import ConfigError
from negflax.files import write_json, write_text

from . import flags as shared
from .engines import ENGINES, jobset, shell, slurm
from .engines import fit as fitting
from .engines.job import Job, seconds

ENGINE = flags.DEFINE_enum("engine", "local", list(ENGINES), "Where the job runs.")
ACTION = flags.DEFINE_enum(
    "action", "submit", ["submit", "status", "logs", "cancel"], "What to do with the job."
)
NAME = flags.DEFINE_string(
    "name", "negflax", "Name of the job: lower-case letters, digits, hyphens."
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run, which all machines can access.")
NODES = flags.DEFINE_integer("nodes", 1, "Number of machines; on TPUs, of one slice.")
ACCELERATOR = flags.DEFINE_string(
    "accelerator", "", "TYPE:COUNT, devices per machine, as the engine names them; empty: CPUs."
)
TOPOLOGY = flags.DEFINE_string("topology", "", "Topology of a TPU slice, such as 4x4.")
NUM_SLICES = flags.DEFINE_integer("num_slices", 1, "Number of TPU slices.")
IMAGE = flags.DEFINE_string("image", "", "Container image.")
QUEUE = flags.DEFINE_string("queue", "", "Slurm partition or Kueue queue.")
TIME_LIMIT = flags.DEFINE_string(
    "time_limit", "", "Time limit, such as 4h, 90m or HH:MM:SS; default: none."
)
GRACE = flags.DEFINE_integer(
    "grace_seconds", 120, "Seconds from the stop signal until the job is killed."
)
RESTARTS = flags.DEFINE_integer(
    "max_restarts", 10, "Restarts after failures; preemptions do not count."
)
ARRAY = flags.DEFINE_integer("array", 0, "Members of a sweep, one job each (slurm, jobset).")
VOLUME = flags.DEFINE_string(
    "volume", "", "NAME:/PATH, a shared volume with the workdir; see docs/launching.md."
)
NAMESPACE = flags.DEFINE_string("namespace", "default", "Kubernetes namespace.")
ZONE = flags.DEFINE_string("zone", "", "Google Cloud zone (tpu_vm).")
LABELS = flags.DEFINE_list("labels", [], "Labels of the Kubernetes objects, as KEY=VALUE.")
SECRETS = flags.DEFINE_list(
    "secrets", [], "Names of environment variables (sky) or Kubernetes secrets (jobset)."
)
PLAN = flags.DEFINE_boolean("plan", True, "Check with the planner that the run fits its devices.")
MEMORY = flags.DEFINE_float(
    "memory_gib", 0, "Memory of a device in GiB; 0: that of the accelerator."
)
ITEMS = flags.DEFINE_integer("items", 0, "Catalogue size for the planner; 0: count it in the data.")
DRY_RUN = flags.DEFINE_boolean("dry_run", False, "Print everything and submit nothing.")
TEST_ONLY = flags.DEFINE_boolean(
    "test_only", False, "Slurm: check whether the job would be accepted."
)
OUT = flags.DEFINE_string("out", "", "Folder for the rendered files; default: <workdir>/launch.")


def job_of(argv: list[str]) -> Job:
    """Returns the job that the flags and the words after `--` describe.

    Raises:
      ConfigError: a flag is missing or wrong.
    """
    words = argv[1:]
    if ACTION.value == "submit" and not words:
        raise ConfigError(
            "there is no command to run: put it after --, as in -- launch.train --config=FILE"
        )
    labels = dict(label.partition("=")[::2] for label in LABELS.value)
    return Job(
        name=NAME.value,
        module=words[0] if words else "launch.train",
        arguments=tuple(words[1:]),
        workdir=WORKDIR.value,
        nodes=NODES.value,
        accelerator=ACCELERATOR.value,
        topology=TOPOLOGY.value,
        num_slices=NUM_SLICES.value,
        image=IMAGE.value,
        queue=QUEUE.value,
        time_limit=seconds(TIME_LIMIT.value),
        grace_seconds=GRACE.value,
        max_restarts=RESTARTS.value,
        array=ARRAY.value,
        volume=VOLUME.value,
        namespace=NAMESPACE.value,
        zone=ZONE.value,
        labels=labels,
        secrets=tuple(SECRETS.value),
    )


def folder_of(job: Job) -> Path:
    """Returns the folder for rendered files: --out, the run's folder, or runs/NAME."""
    if OUT.value:
        return Path(OUT.value)
    elsewhere = job.remote or (job.volume and not Path(job.workdir).exists())
    return Path("runs", job.name, "launch") if elsewhere else Path(job.workdir, "launch")


def planned(job: Job) -> str:
    """Returns what the planner says about the job, or why the planner was not used."""
    limit = MEMORY.value or fitting.memory_gib(job)
    if not PLAN.value:
        return "not checked (--noplan)"
    if not fitting.config_arguments(job.arguments):
        return "not checked: the program has no --config"
    if not limit:
        return "not checked: give the memory of a device as --memory_gib"
    return fitting.check_fit(job, limit, {"items": ITEMS.value})


def main(argv: list[str]) -> None:
    """See the module.

    Raises:
      ConfigError: a flag is wrong, the run does not fit, or the engine's tool failed.
    """
    job, engine = job_of(argv), ENGINES[ENGINE.value]
    folder = folder_of(job)
    if ACTION.value != "submit":
        _call(getattr(engine, ACTION.value)(job, folder))
        return
    files = engine.render(job)
    command = engine.submit(job, folder)
    if TEST_ONLY.value:
        if engine is not slurm:
            raise ConfigError("--test_only works only with --engine=slurm: use --dry_run")
        command = slurm.test_only(job, folder)
    fit = planned(job)
    if DRY_RUN.value:
        for name, text in files.items():
            print(f"# {folder / name}\n{text}")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_text(folder / name, text)
    print(f"fit: {fit}\n$ {shell.words(command)}")
    if engine is jobset and not job.array and job.num_slices == 1:
        print(f"or, with the Cluster Toolkit:\n$ {shell.words(jobset.gcluster(job))}")
    if shared.JSON.value:
        write_json(shared.JSON.value, {"command": command, "files": dict(files), "fit": fit})
    if not DRY_RUN.value:
        sys.stdout.flush()
        _call(command)


def _call(command: list[str]) -> None:
    """Runs a tool; its exit code becomes ours.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        code = subprocess.run(command).returncode
    except FileNotFoundError as error:
        raise ConfigError(f"{command[0]} is not installed on this machine") from error
    if code:
        sys.exit(code)


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir"])
    shared.run(main, copies=False)
