"""Devices: the mesh, its axis names and the shardings that the rooms use.

Batches are split over every device, and so are the rows of the item tables unless
config.mesh.rows says otherwise: memory for tables divides by the number of devices, and no device
computes what another one does.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from negflax.config import ConfigError, MeshConfig

AXES = ("data", "table")
SPLIT = PartitionSpec(AXES)  # leading axis over every device: batch rows, table rows, slots
COPIED = PartitionSpec()  # the same on every device: dense parameters, scalars


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The (data, table) mesh over `devices`, all of the machine's by default.

    Raises:
      ConfigError: the axes do not multiply to the number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    data = config.data or len(devices) // config.table
    if data * config.table != len(devices):
        raise ConfigError(
            f"config.mesh: data × table = {data} × {config.table} is not {len(devices)} devices; "
            "set config.mesh.data = 0 to take all that config.mesh.table leaves"
        )
    grid = np.asarray(devices).reshape(data, config.table)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 2)


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
