"""This machine: a script that starts the processes, forwards signals and restarts after a stop.

With --nodes=N there are N processes, which communicate over the loopback device.
"""

from __future__ import annotations

from pathlib import Path

from negflax.config import ConfigError

from . import shell
from .job import Job

SCRIPT = """\
#!/usr/bin/env bash
# Runs {name} on this machine; rendered by launch.submit.
set -u
cd "$(dirname "$0")" || exit 1
echo "$$" > {name}.pid
program() {{
  cd {root} && exec {program}
}}
restarts=0
while true; do
  pids=()
  stopping=
  trap 'stopping=yes; interrupted=yes; kill -TERM "${{pids[@]}}" 2>/dev/null' TERM INT
  for ((i = 0; i < {nodes}; i++)); do
    ({ranks}program
    ) >> {name}."$i".out 2>&1 &
    pids+=("$!")
  done
  code=0
  for ((i = 0; i < {nodes}; i++)); do
    while true; do  # a trapped signal ends the wait as well, while the processes still save
      interrupted=
      wait -n "${{pids[@]}}"
      one=$?
      if [ -z "$interrupted" ]; then break; fi
    done
    if [ "$one" -ne 0 ] && [ "$code" -eq 0 ]; then
      code=$one
      # With {preempted} all leave at the same step, by themselves.
      [ "$code" -eq {preempted} ] || kill -TERM "${{pids[@]}}" 2>/dev/null
    fi
  done
  wait
  if [ -n "$stopping" ] || [ "$code" -eq 0 ]; then break; fi
  if {restart}; then
    if [ "$code" -ne {preempted} ]; then restarts=$((restarts + 1)); fi
    echo "exit code $code: starting again" >&2
    continue
  fi
  break
done
rm -f {name}.pid
exit "$code"
"""
RANKS = """
      export JAX_COORDINATOR_ADDRESS=127.0.0.1:{port}
      export JAX_NUM_PROCESSES={nodes} JAX_PROCESS_ID="$i"
      """


def render(job: Job) -> dict[str, str]:
    """Returns the script.

    Raises:
      ConfigError: the job asks for what this machine alone does not do.
    """
    if job.array or job.num_slices > 1:
        raise ConfigError("--engine=local runs one job: leave out --array and --num_slices")
    script = SCRIPT.format(
        name=job.name,
        root=shell.words([str(Path.cwd())]),
        program=shell.words([job.python, *job.program()]),
        nodes=job.nodes,
        ranks=RANKS.format(port=shell.PORT, nodes=job.nodes) if job.nodes > 1 else "",
        preempted=shell.EXIT_PREEMPTED,
        restart=shell.restart_test("code", "restarts", job.max_restarts),
    )
    return {f"{job.name}.sh": script}


def submit(job: Job, folder: Path) -> list[str]:
    """Runs in the foreground; Ctrl-C saves and ends it."""
    return ["bash", str(folder / f"{job.name}.sh")]


def status(job: Job, folder: Path) -> list[str]:
    """Shows the process and for how long it has run."""
    return ["ps", "-o", "pid,stat,etime,args", "-p", _pid(job, folder)]


def logs(job: Job, folder: Path) -> list[str]:
    """Shows the output of the first process."""
    return ["tail", "-n", "200", str(folder / f"{job.name}.0.out")]


def cancel(job: Job, folder: Path) -> list[str]:
    """Saves and ends it."""
    return ["kill", "-TERM", _pid(job, folder)]


def _pid(job: Job, folder: Path) -> str:
    path = folder / f"{job.name}.pid"
    if not path.exists():
        raise ConfigError(f"{path} does not exist: {job.name} is not running on this machine")
    return str(int(path.read_text()))
