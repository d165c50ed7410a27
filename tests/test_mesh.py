import jax
import pytest

from negflax.config import ConfigError, MeshConfig
from negflax.mesh import AXES, make_mesh


def test_data_takes_what_table_leaves():
    mesh = make_mesh(MeshConfig(table=2))
    assert dict(zip(AXES, mesh.devices.shape, strict=True)) == {"data": 4, "table": 2}


def test_axes_must_multiply_to_the_devices():
    with pytest.raises(ConfigError, match="3 × 2, but there are 8 devices"):
        make_mesh(MeshConfig(data=3, table=2), jax.devices())
