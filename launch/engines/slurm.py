"""Slurm: a batch script, one task per node.

A run that is preempted, or close to its time limit, gets SIGTERM, saves and exits with 42; the
script then requeues the job. A job that ended from outside (because a node or a process died) is
also requeued, at most --max_restarts times.
"""

from __future__ import annotations

from pathlib import Path

from negflax.config import ConfigError

from . import shell
from .job import Job

SCRIPT = """\
#!/bin/bash
# Rendered by launch.submit; submit it with sbatch.
{directives}
set -u
# A signal to this shell waits until srun has returned; the tasks get their own.
trap : TERM
cd {root} || exit 1
# srun returns the highest code, also of tasks that it killed because another had failed. The code
# that decides is that of the first to fail.
first={folder}/{name}.$SLURM_JOB_ID.exit
rm -f "$first"
{srun}
code=$?
if [ "$code" -ne 0 ] && [ -s "$first" ]; then code=$(cat "$first"); fi
rm -f "$first"
job="${{SLURM_ARRAY_JOB_ID:+${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}}}"
if {restart}; then
  echo "exit code $code: requeueing" >&2
  scontrol requeue "${{job:-$SLURM_JOB_ID}}"
  exit "$code"
fi
exit "$code"
"""
# Runs a task's words ("$@"), and writes the code of the first that fails to the file "$0".
TASK = (
    'trap : TERM INT HUP; "$@"; code=$?; '
    '[ "$code" -eq 0 ] || (set -C; echo "$code" > "$0") 2> /dev/null; exit "$code"'
)


def render(job: Job) -> dict[str, str]:
    """Returns the batch script.

    Raises:
      ConfigError: the job asks for what Slurm does not have.
    """
    if job.topology or job.num_slices > 1:
        raise ConfigError("--engine=slurm has no TPU slices: leave out --topology and --num_slices")
    program = [job.python, *job.program()]
    line = (
        f'srun --kill-on-bad-exit=1 bash -c {shell.words([TASK])} "$first" {shell.words(program)}'
    )
    if job.image:  # of the plugin pyxis, which most clusters with containers have
        line = line.replace("srun ", f"srun --container-image={shell.words([job.image])} ", 1)
    if job.array:
        line += ' "--sweep_member=$SLURM_ARRAY_TASK_ID"'
    script = SCRIPT.format(
        directives="\n".join(f"#SBATCH --{option}" for option in _options(job)),
        root=shell.words([str(Path.cwd())]),
        folder=shell.words([str(job.log_folder)]),
        name=job.name,
        srun=line,
        restart=shell.restart_test("code", "SLURM_RESTART_COUNT", job.max_restarts),
    )
    return {f"{job.name}.sbatch": script}


def _options(job: Job) -> list[str]:
    options = [
        f"job-name={job.name}",
        f"nodes={job.nodes}",
        "ntasks-per-node=1",
        f"output={job.log_folder}/{job.name}{'-%a' if job.array else ''}.out",
        "open-mode=append",
        "requeue",
        f"signal=TERM@{job.grace_seconds}",
    ]
    if job.time_limit:
        options.append(f"time={-(-job.time_limit // 60)}")
    if job.queue:
        options.append(f"partition={job.queue}")
    if job.accelerator:
        options.append(f"gpus-per-node={job.accelerator}")
    if job.array:
        options.append(f"array=0-{job.array - 1}")
    return options


def submit(job: Job, folder: Path) -> list[str]:
    """Queues the script; sbatch prints the job's number."""
    return ["sbatch", str(folder / f"{job.name}.sbatch")]


def test_only(job: Job, folder: Path) -> list[str]:
    """Checks whether Slurm would accept the job, and when it would start."""
    return ["sbatch", "--test-only", str(folder / f"{job.name}.sbatch")]


def status(job: Job, folder: Path) -> list[str]:
    """Shows this job in the queue."""
    del folder
    return ["squeue", f"--name={job.name}", "--format=%i %T %M %R"]


def logs(job: Job, folder: Path) -> list[str]:
    """Shows the output, for an array that of its first member."""
    del folder
    member = "-0" if job.array else ""
    return ["tail", "-n", "200", f"{job.log_folder}/{job.name}{member}.out"]


def cancel(job: Job, folder: Path) -> list[str]:
    """Ends it for good."""
    del folder
    return ["scancel", f"--name={job.name}"]
