"""A real Slurm of two nodes on this machine: runs, requeues, signals, time limits, arrays.

The Debian packages are installed where they are missing; the cluster has its own configuration,
ports and folder. For the time of the tests /etc/hosts has the names of the nodes.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.engines import slurm
from launch.engines.job import Job
from negflax.train.writers import read_metrics

ROOT = Path(__file__).parents[3]
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("apt-get"), reason="runs as root on Debian"
    ),
]
PACKAGES = ["slurmctld", "slurmd", "slurm-client", "munge"]
NODES = ("negflax-n1", "negflax-n2")
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort=16817
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
KillWait=5
SlurmdParameters=config_overrides
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2
{nodes}
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Installs and starts it; ends it and mends /etc/hosts afterwards."""
    if not all(map(shutil.which, ("slurmctld", "slurmd", "sbatch", "munged"))):
        install = ["apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES]
        done = subprocess.run(
            install, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, capture_output=True
        )
        if done.returncode:
            pytest.skip("runs where apt-get can install slurmctld, slurmd, slurm-client, munge")
    folder = tmp_path_factory.mktemp("slurm")
    host = os.uname().nodename.partition(".")[0]
    nodes = "\n".join(
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={16818 + i} CPUs=4"
        for i, name in enumerate(NODES)
    )
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, folder=folder, nodes=nodes))
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    folder.chmod(0o755)
    hosts = Path("/etc/hosts").read_text()
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(conf)
    with contextlib.ExitStack() as stack:
        stack.callback(Path("/etc/hosts").write_text, hosts)
        lines = "".join(f"127.0.0.1 {name}\n" for name in NODES)
        Path("/etc/hosts").write_text(f"{hosts.rstrip()}\n{lines}")
        munge = [
            f"--{name}={folder}/munge.{end}"
            for name, end in (
                ("key-file", "key"),
                ("socket", "socket"),
                ("pid-file", "pid"),
                ("seed-file", "seed"),
                ("log-file", "log"),
            )
        ]
        daemons = [
            (["munged", "--force", *munge], "munge.pid"),
            (["slurmctld", "-f", str(conf)], "slurmctld.pid"),
        ]
        daemons += [(["slurmd", "-f", str(conf), "-N", name], f"{name}.pid") for name in NODES]
        for command, pid in daemons:
            subprocess.run(command, check=True)
            stack.callback(_end, folder / pid)
        _until(lambda: _out("sinfo", "--noheader", "--format=%T").split() == ["idle"], 60)
        yield folder
        subprocess.run(["scancel", "--user=root"])
        _until(lambda: not _out("squeue", "--noheader"), 60)
    if before is None:
        del os.environ["SLURM_CONF"]
    else:
        os.environ["SLURM_CONF"] = before


def _end(pid_file):
    if pid_file.exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid_file.read_text()), 15)


def _out(*command):
    return subprocess.run(command, check=True, text=True, capture_output=True).stdout.strip()


def _until(true, seconds):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)


def submit(job, folder):
    """The job's number."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in slurm.render(job).items():
        (folder / name).write_text(text)
    return _out(*slurm.submit(job, folder)).split()[-1]


def finished(number, seconds=600):
    """Waits; (state, exit code of the batch script) of the last try."""

    def of(what):
        shown = _out("scontrol", "show", "job", "--oneliner", number).splitlines()[0]
        return shown.partition(f" {what}=")[2].split()[0]

    over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
    _until(lambda: of("JobState") in over, seconds)
    return of("JobState"), int(of("ExitCode").split(":")[0])


PROGRAM = """\
import os, signal, sys, time
from pathlib import Path
folder, codes = Path(sys.argv[3]), sys.argv[4].split(",")
rank = os.environ["SLURM_PROCID"] + "." + os.environ.get("SLURM_ARRAY_TASK_ID", "")
tries = folder / f"tries.{rank}"
number = len(tries.read_text()) if tries.exists() else 0
tries.write_text("x" * (number + 1))
(folder / f"words.{rank}").write_text(repr(sys.argv[5:]))
code = codes[number]
if code == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))
    (folder / f"ready.{rank}").write_text(str(os.getpid()))
    time.sleep(600)
sys.exit(int(code))
"""


def stand_in(folder, codes, *words, **changes):
    """A job whose tasks do what `codes` says, one code a try."""
    folder.mkdir(parents=True)
    (folder / "program.py").write_text(PROGRAM)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {folder}/program.py "$@"\n')
    python.chmod(0o755)
    known = {"name": "job", "module": "launch.train", "workdir": str(folder), "nodes": 2}
    return Job(
        **known | {"arguments": (str(folder), codes, *words), "python": str(python)} | changes
    )


def tries(folder, rank="0."):
    return len((folder / f"tries.{rank}").read_text())


def test_words_codes_and_the_end(cluster, tmp_path):
    hostile = ("a b", "$(id)", "it's", "two\nlines")
    job = stand_in(tmp_path / "a", "0", *hostile)
    assert finished(submit(job, job_folder := tmp_path / "a")) == ("COMPLETED", 0)
    for rank in ("0.", "1."):
        words = (job_folder / f"words.{rank}").read_text()
        assert words == repr([*hostile, f"--workdir={job_folder}"])
    job = stand_in(tmp_path / "b", "1,0")  # the user's error
    assert finished(submit(job, tmp_path / "b")) == ("FAILED", 1)
    assert tries(tmp_path / "b") == 1


def test_a_preempted_job_is_requeued_and_one_that_was_killed(cluster, tmp_path):
    job = stand_in(tmp_path / "a", "wait,42,0", max_restarts=0)
    first = submit(job, tmp_path / "a")
    killed = stand_in(tmp_path / "b", "wait,0", name="killed", max_restarts=1)
    second = submit(killed, tmp_path / "b")
    _until(lambda: all((tmp_path / "a" / f"ready.{rank}.").exists() for rank in (0, 1)), 60)
    subprocess.run(["scancel", "--signal=TERM", first], check=True)  # to the tasks, as preemption
    _until(lambda: all((tmp_path / "b" / f"ready.{rank}.").exists() for rank in (0, 1)), 120)
    os.kill(int((tmp_path / "b" / "ready.1.").read_text()), 9)
    assert finished(first) == ("COMPLETED", 0)
    assert finished(second) == ("COMPLETED", 0)
    assert tries(tmp_path / "a") == 3 and tries(tmp_path / "b") == 2
    assert "requeueing" in (tmp_path / "a" / "job.out").read_text()


def test_restarts_are_counted(cluster, tmp_path):
    job = stand_in(tmp_path / "a", "137,137,0", max_restarts=1)
    assert finished(submit(job, tmp_path / "a"))[0] == "FAILED"
    assert tries(tmp_path / "a") == 2


def test_before_the_time_limit_the_tasks_save(cluster, tmp_path):
    job = stand_in(tmp_path / "a", "wait,0", time_limit=60, grace_seconds=50)
    assert finished(submit(job, tmp_path / "a")) == ("COMPLETED", 0)
    assert tries(tmp_path / "a") == tries(tmp_path / "a", "1.") == 2


def test_an_array_and_a_dry_run(cluster, tmp_path):
    job = stand_in(tmp_path / "a", "0", nodes=1, array=3)
    number = submit(job, tmp_path / "a")
    _until(lambda: not _out("squeue", "--noheader", f"--jobs={number}"), 120)
    for member in range(3):
        words = (tmp_path / "a" / f"words.0.{member}").read_text()
        assert f"'--sweep_member={member}'" in words
    shown = subprocess.run(
        slurm.test_only(job, tmp_path / "a"), check=True, text=True, capture_output=True
    )
    assert "to start at" in shown.stderr
    too_large = stand_in(tmp_path / "b", "0", nodes=3)
    for name, text in slurm.render(too_large).items():
        (tmp_path / "b" / name).write_text(text)
    assert subprocess.run(slurm.test_only(too_large, tmp_path / "b")).returncode


SMALL = {
    "world.num_users": 80,
    "world.num_items": 100,
    "world.steps": 30,
    "batch.rows": 8,
    "batch.length": 10,
    "model.hidden": 8,
    "model.embedding": 8,
    "loss.positives_only_steps": 2,
    "loss.ramp_steps": 1,
    "optimizer.warmup_steps": 1,
    "train.steps": 400,
    "train.eval_every": 200,
    "train.checkpoint_every": 200,
    "train.log_every": 1,
    "eval.history": 10,
    "eval.bootstrap": 20,
}


def test_training_on_two_nodes_is_preempted_and_goes_on(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    workdir = tmp_path / "run"
    arguments = ["--config=configs/synthetic.py", "--notest"]
    arguments += [f"--config.{key}={value}" for key, value in SMALL.items()]
    job = Job(
        name="train",
        module="launch.train",
        arguments=tuple(arguments),
        workdir=str(workdir),
        nodes=2,
    )
    number = submit(job, workdir)

    def reached(step):
        return any(line["step"] >= step for line in read_metrics(workdir))

    _until(lambda: reached(3), 600)
    subprocess.run(["scancel", "--signal=TERM", number], check=True)
    assert finished(number) == ("COMPLETED", 0), (workdir / "train.out").read_text()
    printed = (workdir / "train.out").read_text()
    assert "requeueing" in printed and "resuming from step" in printed
    steps = [line["step"] for line in read_metrics(workdir) if line["kind"] == "train"]
    assert steps == list(range(1, 401))
    assert json.loads((workdir / "done.json").read_text())["step"] == 400
