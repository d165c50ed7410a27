"""A job for the engines: its program, number of machines and limits.

Names, labels, limits and paths are checked here, so that engines need no checks. The program's
arguments may contain anything except secrets.
"""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from negflax.config import ConfigError
from negflax.object_store import is_remote

# Pods are called NAME-workers-0-0-xxxxx, and no part of a host's name may exceed 63 characters.
NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
LABEL = re.compile(r"([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?")
LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?")
WORD = re.compile(r"[A-Za-z0-9][-\w.]*")
IMAGE = re.compile(r"[a-z0-9][-\w./:@]*")
# Of a workdir: a folder, or gs://BUCKET/FOLDER; no space, quote, comma, % or line break.
PATH = re.compile(r"([a-z][a-z\d]*:/)?[\w.~/@+=-]+")
DEVICES = re.compile(r"[A-Za-z][-\w]*(:[1-9]\d*)?")
VOLUME = re.compile(r"[A-Za-z0-9][-\w./]*(:/[\w./-]+){1,2}")
TOPOLOGY = re.compile(r"\d+(x\d+){0,2}")
SECRET_FLAG = re.compile(r"-{0,2}[\w.]*(password|passwd|secret|api_?key|access_?key|token)\b", re.I)
SECRET_VALUE = re.compile(
    r"\b(AKIA[0-9A-Z]{16}|gh[pousr]_\w{30,}|hf_\w{30,}|sk-[\w-]{20,})|PRIVATE KEY"
)

AT_LEAST = {
    "nodes": 1,
    "num_slices": 1,
    "grace_seconds": 1,
    "time_limit": 0,
    "max_restarts": 0,
    "array": 0,
}


@dataclasses.dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
      name: name of the job: lower-case letters, digits and hyphens.
      module: the program, such as `launch.train`.
      arguments: arguments of the program.
      workdir: the folder to which it writes; all machines can access it.
      nodes: number of machines, on TPUs of one slice; each runs one process.
      accelerator: TYPE or TYPE:COUNT with COUNT devices per machine, as the engine names them;
        empty for CPUs.
      topology: topology of a TPU slice, such as `4x4`.
      num_slices: number of TPU slices.
      image: container image.
      queue: Slurm partition, or Kueue queue.
      time_limit: seconds; 0 for none.
      grace_seconds: time between the signal to stop and the kill.
      max_restarts: restarts after failures; preemptions that were saved do not count.
      array: number of members of an array of jobs; 0 for one job.
      volume: NAME:/PATH, a shared volume that is mounted there; empty if the machines have the
        workdir's file system already.
      namespace: Kubernetes namespace.
      zone: Google Cloud zone.
      labels: labels of Kubernetes objects.
      secrets: names of environment variables, or of Kubernetes secrets, that the job gets; their
        values are never read here.
      python: the interpreter, if no image is used.
    """

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    workdir: str = "runs/job"
    nodes: int = 1
    accelerator: str = ""
    topology: str = ""
    num_slices: int = 1
    image: str = ""
    queue: str = ""
    time_limit: int = 0
    grace_seconds: int = 120
    max_restarts: int = 10
    array: int = 0
    volume: str = ""
    namespace: str = "default"
    zone: str = ""
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    python: str = sys.executable

    def __post_init__(self):
        """Checks every field.

        Raises:
          ConfigError: which flag is wrong, and what it may be.
        """
        _match("name", self.name, NAME, "lower-case letters, digits, hyphens, at most 40")
        _match("module", self.module, re.compile(r"(launch|benchmarks)\.\w+"), "launch.NAME")
        _match("volume", self.volume, VOLUME, "NAME:/PATH", optional=True)
        _match("workdir", self.workdir, PATH, "a path without spaces, quotes, commas or %")
        shared = any(argument.startswith("--cache_dir=") for argument in self.arguments)
        if self.remote and self.nodes * self.num_slices > 1 and not shared:
            raise ConfigError(
                f"--workdir={self.workdir}: several machines need a local copy that all of them "
                "see: add --cache_dir=FOLDER, on a shared disk, to the program's arguments"
            )
        for flag in ("queue", "namespace", "zone"):
            _match(flag, getattr(self, flag), WORD, "letters, digits, . _ and -", optional=True)
        _match("image", self.image, IMAGE, "REGISTRY/NAME:TAG", optional=True)
        _match("accelerator", self.accelerator, DEVICES, "TYPE or TYPE:COUNT", optional=True)
        _match("topology", self.topology, TOPOLOGY, "as 4x4", optional=True)
        for key, value in self.labels.items():
            _match("labels", key, LABEL_KEY, "Kubernetes label keys")
            _match("labels", value, LABEL, "Kubernetes label values")
        for name in self.secrets:
            _match("secrets", name, re.compile(r"[A-Za-z_][-\w.]*"), "names, without values")
        for flag, least in AT_LEAST.items():
            if getattr(self, flag) < least:
                raise ConfigError(f"--{flag}={getattr(self, flag)}: at least {least} is needed")
        for argument in (self.module, *self.arguments):
            _refuse_secrets(argument)
        if self.array and self.nodes * self.num_slices > 1:
            raise ConfigError("--array: each member runs on one machine; leave --nodes at 1")

    @property
    def remote(self) -> bool:
        """Whether the run is on an object store."""
        return is_remote(self.workdir)

    @property
    def log_folder(self) -> Path:
        """The folder for output: that of the run, or runs/NAME here."""
        return Path("runs", self.name).absolute() if self.remote else Path(self.workdir).absolute()

    @property
    def device(self) -> str:
        """The type of the accelerator, without its count."""
        return self.accelerator.partition(":")[0]

    @property
    def devices_per_node(self) -> int:
        """Number of devices of a machine; 1 on CPUs."""
        return int(self.accelerator.partition(":")[2] or 1)

    @property
    def devices(self) -> int:
        """Number of devices of the whole job."""
        return self.nodes * self.num_slices * self.devices_per_node

    def mount(self) -> tuple[str, str]:
        """Returns (volume, path) of --volume, or two empty texts."""
        name, _, path = self.volume.rpartition(":")
        return name, path

    def program(self) -> tuple[str, ...]:
        """Returns the program and its arguments; adds --workdir if they have none."""
        named = any(re.match(r"--?workdir(=|$)", argument) for argument in self.arguments)
        own = () if named else (f"--workdir={self.workdir}",)
        return ("-m", self.module, *self.arguments, *own)

    def check_topology(self, chips_per_node: int) -> None:
        """Raises ConfigError if the number of machines does not match the topology of a slice."""
        chips = math.prod(map(int, self.topology.split("x")))
        if chips != self.nodes * chips_per_node:
            raise ConfigError(
                f"--topology={self.topology} has {chips} chips, and --nodes={self.nodes} machines "
                f"of {chips_per_node} have {self.nodes * chips_per_node}"
            )

    def need(self, flag: str, why: str) -> None:
        """Raises ConfigError if an engine needs a flag that was not given."""
        if not getattr(self, flag):
            raise ConfigError(f"--{flag} is needed: {why}")


def seconds(text: str) -> int:
    """Returns the seconds of `90`, `30m`, `4h`, `2d` or `HH:MM:SS`; 0 for an empty text.

    Raises:
      ConfigError: it is none of these.
    """
    if re.fullmatch(r"\d+(:\d\d){2}", text):
        hours, minutes, rest = map(int, text.split(":"))
        return hours * 3600 + minutes * 60 + rest
    if found := re.fullmatch(r"(\d+)([smhd]?)", text):
        return int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]
    if text:
        raise ConfigError(f"--time_limit={text}: write it as 4h, 90m or HH:MM:SS")
    return 0


def _match(flag: str, value: str, form: re.Pattern, means: str, *, optional: bool = False) -> None:
    if not (optional and not value) and not form.fullmatch(value):
        raise ConfigError(f"--{flag}={value!r}: {means}")


def _refuse_secrets(argument: str) -> None:
    flag = argument.partition("=")[0]
    if SECRET_FLAG.fullmatch(flag) or SECRET_VALUE.search(argument):
        shown = flag if "=" in argument and not SECRET_VALUE.search(flag) else "one"
        raise ConfigError(
            f"an argument looks like a secret ({shown}): arguments are written to files. Put it "
            "into an environment variable and name that with --secrets"
        )
