"""Parameters from a checkpoint onto other devices, whole or the tables alone."""

import jax
import numpy as np
import pytest
import tiny

from negflax.config import MeshConfig
from negflax.mesh import make_mesh
from negflax.train.checkpoint import write_config
from negflax.train.loop import open_checkpoints
from negflax.train.restore import CATALOGUE, load_tables, load_trained

SEQUENCES = tiny.make_sequences()
ROWS = SEQUENCES.catalogue.num_rows


def mesh(devices):
    return make_mesh(MeshConfig(), jax.devices()[:devices])


@pytest.fixture(scope="module", params=[8, 1])
def saved(request, tmp_path_factory):
    """(folder of a run with checkpoint 1, its state), written from that many devices."""
    folder = tmp_path_factory.mktemp("run")
    write_config(folder, tiny.CONFIG)
    SEQUENCES.catalogue.save(folder / CATALOGUE)
    state = tiny.make_trainer(tiny.CONFIG, SEQUENCES, request.param)[0].init()
    checkpoints = open_checkpoints(tiny.CONFIG, folder)
    checkpoints.save(1, state, None)
    checkpoints.close()
    return folder, jax.device_get(state)


@pytest.mark.parametrize("devices", [1, 8])
def test_parameters_and_tables_alone_onto_other_devices(saved, devices):
    folder, state = saved
    trained = load_trained(folder, "latest", mesh(devices))
    tables, catalogue, step = load_tables(folder, "latest", mesh(devices))
    jax.tree.map(
        np.testing.assert_array_equal, jax.device_get(trained.state["dense"]), state["dense"]
    )
    assert (step, catalogue.item_ids.tolist()) == (1, SEQUENCES.catalogue.item_ids.tolist())
    assert set(tables) == set(state["tables"]) == {"item", "creator", "cluster"}
    for name, rows in tables.items():
        assert rows.sharding.mesh.size == devices
        real = trained.model.tables[name].num_rows
        for found in (rows, trained.state["tables"][name]["rows"]):
            np.testing.assert_array_equal(found[:real], state["tables"][name]["rows"][:real])


def test_another_checkpoint_takes_the_same_model(saved):
    folder, _ = saved
    first = load_trained(folder, "1", mesh(1))
    assert load_trained(folder, "1", mesh(1), first.model).model is first.model
