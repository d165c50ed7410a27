"""Devices: the mesh, its axis names and the shardings that the packages use.

Batches are split over every device, and so are the rows of the item tables unless
config.mesh.rows says otherwise: memory for tables divides by the number of devices, and no device
computes what another one does. With several processes the devices are those of all of them:
`to_host` and `from_hosts` are the two ways between a host's arrays and theirs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from negflax.config import ConfigError, MeshConfig

AXES = ("data", "table")
SPLIT = PartitionSpec(AXES)  # leading axis over every device: batch rows, table rows, slots
COPIED = PartitionSpec()  # the same on every device: dense parameters, scalars


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The (data, table) mesh over `devices`, those of all processes by default.

    The devices of a process are neighbours, so that its rows of a batch are.

    Raises:
      ConfigError: the axes do not multiply to the number of devices, or the processes have not
        equally many.
    """
    devices = list(jax.devices() if devices is None else devices)
    devices.sort(key=lambda device: device.process_index)
    per_process = np.unique([device.process_index for device in devices], return_counts=True)[1]
    if len(set(per_process)) > 1:
        raise ConfigError(
            f"the processes have {list(per_process)} devices: give all of them the same number"
        )
    data = config.data or len(devices) // config.table
    if data * config.table != len(devices):
        raise ConfigError(
            f"config.mesh: data × table = {data} × {config.table}, but there are {len(devices)} "
            "devices; set config.mesh.data = 0 to use all of them"
        )
    grid = np.asarray(devices).reshape(data, config.table)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 2)


def exact_products() -> contextlib.AbstractContextManager[None]:
    """Products traced within this are those of float32 on TPUs too, which round to bfloat16."""
    return jax.default_matmul_precision("highest")


def split(mesh: Mesh, axes: tuple[str, ...] = AXES) -> NamedSharding:
    """Leading axis over the devices along `axes`, all of them by default."""
    return NamedSharding(mesh, PartitionSpec(axes))


def copied(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, COPIED)


def platform() -> str:
    """`cpu`, `gpu` or `tpu`: that of the mesh whose program is being traced.

    Programs are compiled for devices that are not there too (negflax/train/chips.py): the default
    backend is asked only where no mesh is at hand.
    """
    device = getattr(jax.sharding.get_abstract_mesh(), "abstract_device", None)
    return jax.default_backend() if device is None else device.platform


def to_host(tree: Any) -> Any:
    """The arrays of a tree as NumPy arrays, whole, whichever processes' devices hold their parts.

    Every process calls this alike.
    """
    return jax.tree.map(_to_host, tree)


def _to_host(x: Any) -> np.ndarray:
    if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    return multihost_utils.process_allgather(x, tiled=True)


def from_hosts(mesh: Mesh, tree: Any) -> Any:
    """Arrays over all devices, of which each process gives its own consecutive rows."""
    sharding = split(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), tree)
