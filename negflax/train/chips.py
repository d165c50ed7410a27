"""Chips by name, present or not: XLA's compilers run on any CPU machine and need no device.

A program that is lowered for the devices of `absent` is compiled as if they were there: memory,
collectives and text of the compiled program can be read, but it cannot run. TPUs need libtpu (`pip
install negflax[tpu]`), GPUs the CUDA plugin of JAX and NVIDIA's assembler (`pip install
negflax[cuda]`); no driver and no device.
"""

from __future__ import annotations

import importlib.util
import math
import os
from typing import NamedTuple

import jax
from jax.experimental import topologies

from negflax.config import ConfigError


class Chip(NamedTuple):
    """A kind of device, with the peak rates of its data sheet.

    Attributes:
      platform: `tpu` or `gpu`.
      memory_gib: of a device.
      tflops: 10^12 operations a second, of bfloat16 products that are summed in float32.
      float32_share: what is left of them for float32 products to full precision.
      memory_gbps: bandwidth of its memory, 10^9 bytes a second.
      link_gbps: to other devices, 10^9 bytes a second.
    """

    platform: str
    memory_gib: float
    tflops: float
    float32_share: float
    memory_gbps: float
    link_gbps: float


# A TPU multiplies float32 in six passes of bfloat16; an H100 or H200 on its other units.
CHIPS = {
    "tpu_v5e": Chip("tpu", 16, 197, 1 / 6, 819, 50),
    "tpu_v6e": Chip("tpu", 32, 918, 1 / 6, 1640, 100),
    "h100": Chip("gpu", 80, 989, 67 / 989, 3350, 50),
    "h200": Chip("gpu", 141, 989, 67 / 989, 4800, 50),
}
_NEEDS = {
    "tpu": ("libtpu", "pip install 'negflax[tpu]'"),
    "gpu": ("jax_cuda13_plugin", "pip install 'negflax[cuda]'"),
}
# Before libtpu is loaded: it asks no metadata server, and may be loaded by several processes.
_TPU_ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
# What XLA's GPU compiler asks the driver of a Hopper GPU, as that would answer.
_HOPPER = """
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth}
  l2_cache_size: 62914560
  clock_rate_ghz: 1.98
  device_memory_size: {memory}
  shared_memory_per_block_optin: 232448
  cuda_compute_capability {{ major: 9 }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 12 }}
runtime_version {{ major: 13 minor: 0 patch: 0 }}
device_description_str: "NVIDIA {name}"
"""


def missing(name: str) -> str:
    """Why programs cannot be compiled for a chip here, and what to install; empty if they can.

    Raises:
      ConfigError: no chip has that name.
    """
    if name not in CHIPS:
        raise ConfigError(f"platform {name!r} is unknown: choose from {', '.join(CHIPS)}")
    package, command = _NEEDS[CHIPS[name].platform]
    if importlib.util.find_spec(package):
        return ""
    return f"the compiler for {name} is not installed ({package}): {command}"


def absent(name: str, number: int) -> list[jax.Device]:
    """That many devices of a kind to compile for, none of which needs to be there.

    Args:
      name: of CHIPS.
      number: of devices; for TPUs a power of two up to 256, as slices are.

    Raises:
      ConfigError: the chip is unknown, its compiler is not installed, or there is no such slice.
    """
    if said := missing(name):
        raise ConfigError(said)
    chip = CHIPS[name]
    if chip.platform == "gpu":
        config = _HOPPER.format(
            bandwidth=int(chip.memory_gbps * 1e9),
            memory=int(chip.memory_gib * 1e9),
            name=name.upper(),
        )
        found = topologies.get_topology_desc(
            platform="cuda", target_config=config, topology=f"1x{number}x1"
        )
        return list(found.devices)
    sides = int(math.log2(max(4, number)))  # 2×2 is the smallest slice that is described
    if number > 256 or number & (number - 1):
        raise ConfigError(
            f"{number} devices of {name}: give a power of two up to 256, the size of a slice"
        )
    kind = name.removeprefix("tpu_").replace("v5e", "v5litepod")
    for variable, value in (_TPU_ENVIRONMENT | {"TPU_ACCELERATOR_TYPE": f"{kind}-8"}).items():
        os.environ.setdefault(variable, value)
    topology = f"{name.removeprefix('tpu_')}:{2 ** (sides // 2)}x{2 ** (sides - sides // 2)}"
    return list(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)[
        :number
    ]
