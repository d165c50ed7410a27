"""Several processes of a program, joined by loopback, as a scheduler would start them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
HEARTBEAT, START = 10, 60  # seconds without a sign of a process, and for all to join
TINY = {
    "model.hidden": 8,
    "model.embedding": 8,
    "batch.rows": 4,
    "batch.length": 16,
    "loss.positives_only_steps": 4,
    "loss.ramp_steps": 2,
    "optimizer.warmup_steps": 2,
    "eval.bootstrap": 50,
    "train.steps": 20,
    "train.eval_every": 10,
    "train.checkpoint_every": 5,
    "train.log_every": 5,
}


TINY_WORLD = {
    "world.num_users": 150,
    "world.num_items": 60,
    "world.num_creators": 10,
    "world.num_clusters": 4,
    "world.steps": 20,
}


def train_arguments(workdir, config="synthetic", **settings):
    """The arguments of launch.train for a run of seconds; `train__steps=8` changes a setting."""
    named = TINY | (TINY_WORLD if config == "synthetic" else {})
    named |= {name.replace("__", "."): value for name, value in settings.items()}
    changes = [f"--config.{name}={value}" for name, value in named.items()]
    return [f"--config={ROOT}/configs/{config}.py", f"--workdir={workdir}", *changes]


class Group:
    """The processes; logs in `folder`/INDEX.log."""

    def __init__(self, folder, count, program, *arguments, devices=1, compiled=None):
        """Starts them; together they have count · devices devices."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.logs = [Path(folder) / f"{index}.log" for index in range(count)]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        env = {k: v for k, v in os.environ.items() if not k.startswith("NEGFLAX_")} | {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # they run for seconds
            "JAX_COMPILATION_CACHE_DIR": str(compiled or Path(folder).parent / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
            "NEGFLAX_NUM_PROCESSES": str(count),
            "NEGFLAX_COORDINATOR_ADDRESS": address,
            "NEGFLAX_HEARTBEAT_SECONDS": str(HEARTBEAT),
            "NEGFLAX_START_SECONDS": str(START),
        }
        self.processes = []
        for index, log in enumerate(self.logs):
            with open(log, "w") as file:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", f"launch.{program}", *map(str, arguments)],
                        cwd=ROOT,
                        env=env | {"NEGFLAX_PROCESS_ID": str(index)},
                        stdout=file,
                        stderr=subprocess.STDOUT,
                    )
                )

    def wait(self, seconds=900):
        """The exit codes; processes that have not ended by then are killed, and it is an error."""
        until = time.monotonic() + seconds
        try:
            return [p.wait(max(0.1, until - time.monotonic())) for p in self.processes]
        finally:
            self.kill()

    def kill(self):
        """Ends what is left."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()

    def text(self, index=0):
        """What a process has written so far."""
        return self.logs[index].read_text()

    def until(self, text, index=0, seconds=900):
        """Waits for a line that holds the text."""
        end = time.monotonic() + seconds
        while text not in self.text(index):
            assert time.monotonic() < end and self.processes[index].poll() is None, self.text(index)
            time.sleep(0.02)


def finished(folder, *arguments, count=2, devices=1):
    """Runs launch.train to its end; the text of the first process."""
    group = Group(folder, count, "train", *arguments, devices=devices)
    codes = group.wait()
    assert codes == [0] * count, "\n".join(group.text(i) for i in range(count))
    return group.text()


def results(workdir):
    """results.json but for what depends on the clock and on the number of devices."""
    clocks = ("seconds/", "cpu_seconds/", "targets_per", "device_wait", "devices", "goodput")
    found = json.loads((Path(workdir) / "results.json").read_text())
    return {name: value for name, value in found.items() if not name.startswith(clocks)}


def same_bits(one, other):
    """Whether two runs ended with equal parameters, optimizer state and best checkpoint."""
    done = [json.loads((Path(w) / "done.json").read_text()) for w in (one, other)]
    if done[0] != done[1]:
        return False
    steps = [done[0]["step"], done[0]["best_step"]]
    return all(_prints(one, step) == _prints(other, step) for step in steps)


def _prints(workdir, step):
    path = Path(workdir) / "checkpoints" / str(step) / "fingerprints" / "metadata"
    return json.loads(path.read_text())


def random_moments(seed, count, most):
    """Seconds, uniform from 0 to `most`."""
    return np.random.default_rng(seed).uniform(0, most, count).tolist()
